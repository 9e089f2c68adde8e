-- The reserves in force leave something to whom it is owed by rank. Compared when the statement has ended, so that one may
-- lower a reserve and raise another; one transaction after the other, so that no two of them raise what only one may.
-- Who hands the policies on to Redis holds the same lock (store/queues.py), so that none of it is overtaken.
create or replace function guard_queue() returns trigger language plpgsql as $$
declare
    total numeric;
begin
    perform pg_advisory_xact_lock(hashtextextended('stoker:queues', 0));
    select sum(coalesce(q.override_reserve, q.reserve)::numeric) into total from queues q;
    if total >= 1 then
        raise exception 'queue %: queue_reserves_leave_room: the reserves in force are % in all, and must be less than 1',
            new.name, total
            using errcode = 'integrity_constraint_violation', constraint = 'queue_reserves_leave_room', table = 'queues';
    end if;
    return null;
end $$;

-- A constraint trigger cannot be replaced, and to drop it would wait for whoever reads the table.
do $$ begin
    if not exists (select from pg_trigger where tgname = 'guard_queue' and tgrelid = 'queues'::regclass) then
        create constraint trigger guard_queue after insert or update on queues
            deferrable initially immediate for each row execute function guard_queue();
    end if;
end $$;
