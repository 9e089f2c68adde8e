-- A tick is claimed by whoever holds the lease of beat: one that was stopped meanwhile and goes on has an epoch that is over.
create or replace function guard_tick() returns trigger language plpgsql as $$
begin
    if not exists (select from beat_lease where epoch = new.epoch) then
        raise exception 'tick of %: tick_is_its_holders: epoch % does not hold the lease of beat', new.entry, new.epoch
            using errcode = 'integrity_constraint_violation', constraint = 'tick_is_its_holders', table = 'ticks';
    end if;
    return new;
end $$;

create or replace trigger guard_tick before insert on ticks for each row execute function guard_tick();

-- What a check cannot hold because it compares the row with what it was.
create or replace function guard_beat() returns trigger language plpgsql as $$
declare
    broken text;
begin
    if new.epoch < old.epoch then
        broken := 'beat_epoch_never_falls';
    elsif new.epoch = old.epoch
        and (new.backend_pid, new.backend_start) is distinct from (old.backend_pid, old.backend_start) then
        broken := 'beat_takes_a_new_epoch';
    end if;
    if broken is not null then
        raise exception 'lease of beat: %: epoch % must not become %', broken, old.epoch, new.epoch
            using errcode = 'integrity_constraint_violation', constraint = broken, table = 'beat_lease';
    end if;
    return new;
end $$;

create or replace trigger guard_beat before update on beat_lease for each row execute function guard_beat();
