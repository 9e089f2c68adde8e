-- The one way from state to state outside of a claim. Names the states and the epoch it expects; null says it lost the
-- race and changed nothing. Ends the claim, if there was one: into the history, and off the tenant's count.
create or replace function move_worker(
    p_worker bigint, p_epoch int, p_from text[], p_to text, p_reason text, p_hot interval default null
) returns text language plpgsql as $$
declare
    was workers;
    -- It may quote what a program said, at any length.
    v_reason text := left(p_reason, 1000);
begin
    select * into was from workers w
        where w.id = p_worker and w.epoch = p_epoch and w.state = any (p_from) for update;
    if not found then return null; end if;
    update workers w set state = p_to, state_since = now(), asked_at = null, claimed_at = null, activated_at = null,
            lease_until = null, origin = null,
            hot_until = case when p_to = 'hot_idle' then now() + p_hot end,
            ended_at = case when p_to in ('retired', 'lost') then now() end,
            failure = case when p_to in ('draining', 'lost') then v_reason else w.failure end
        where w.id = p_worker;
    if was.state in ('activating', 'active') then
        insert into claims (worker_id, epoch, tenant, profile, node, node_first_seen, origin, asked_at, claimed_at,
                            activated_at, ended_at, end_reason, correlation_id)
            values (was.id, was.epoch, was.tenant, was.profile, was.node, was.node_first_seen, was.origin,
                    was.asked_at, was.claimed_at, was.activated_at, greatest(clock_timestamp(), was.claimed_at), v_reason,
                    was.correlation_id);
        if is_capped(was.tenant) then
            update tenants t set live = live - 1 where t.name = was.tenant;
        end if;
    end if;
    insert into events (kind, profile, worker_id, tenant, correlation_id, detail)
        values ('worker.' || p_to, was.profile, was.id, was.tenant, was.correlation_id,
                jsonb_build_object('from', was.state, 'reason', v_reason, 'epoch', was.epoch));
    return was.state;
end $$;
