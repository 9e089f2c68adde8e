-- What a CHECK cannot hold because it compares a row with what it was. The conditions stand in WHEN, so that an update
-- that keeps the rules runs no function at all: the guards cost a claim next to nothing.

create or replace function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'worker %: %: % (tenant %, epoch %) must not become % (tenant %, epoch %)',
        old.id, tg_argv[0], old.state, old.tenant, old.epoch, new.state, new.tenant, new.epoch
        using errcode = 'integrity_constraint_violation';
end $$;

create or replace trigger worker_serves_one_tenant before update on workers for each row
    when (old.tenant is not null and old.tenant is distinct from new.tenant)
    execute function refuse_change('a worker serves one tenant in its life');

create or replace trigger worker_epoch_never_falls before update on workers for each row
    when (new.epoch < old.epoch)
    execute function refuse_change('an epoch never falls');

create or replace trigger worker_claim_takes_a_new_epoch before update on workers for each row
    when (old.state in ('idle', 'hot_idle') and new.state = 'activating' and new.epoch <> old.epoch + 1)
    execute function refuse_change('each claim takes the next epoch');

create or replace trigger worker_state_follows_the_table before update on workers for each row
    when (old.state <> new.state and (old.state, new.state) not in ({transitions}))
    execute function refuse_change('no such transition');
