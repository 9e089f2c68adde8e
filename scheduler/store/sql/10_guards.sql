-- What a CHECK cannot hold because it compares a row with what it was. One trigger, for it is paid by every update of a
-- worker: PostgreSQL compiles a trigger's WHEN anew in each statement, and a cached function costs a third of that.
create or replace function guard_worker() returns trigger language plpgsql as $$
declare
    broken text;
begin
    if old.tenant is not null and old.tenant is distinct from new.tenant then
        broken := 'worker_serves_one_tenant';
    elsif new.epoch < old.epoch then
        broken := 'worker_epoch_never_falls';
    elsif old.state <> new.state then
        if old.state in ('idle', 'hot_idle') and new.state = 'activating' and new.epoch <> old.epoch + 1 then
            broken := 'worker_claim_takes_a_new_epoch';
        elsif (old.state, new.state) not in ({transitions}) then
            broken := 'worker_state_follows_the_table';
        end if;
    end if;
    if broken is not null then
        raise exception 'worker %: %: % (tenant %, epoch %) must not become % (tenant %, epoch %)',
            old.id, broken, old.state, old.tenant, old.epoch, new.state, new.tenant, new.epoch
            using errcode = 'integrity_constraint_violation', constraint = broken, table = 'workers';
    end if;
    return new;
end $$;

create or replace trigger guard_worker before update on workers for each row execute function guard_worker();
