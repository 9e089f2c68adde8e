-- A launched worker answers: it parks as idle, or goes to who waits for it in the same transaction, so that nobody who
-- comes later sees it free in between. A profile being drained gets no new idle workers. On a node that is closed it stays
-- spawning: nobody may have it, so it must not count as one of those that somebody may.
create or replace function worker_ready(
    p_worker bigint, p_lease interval, out became text, out ticket_id bigint, out wake_key text
) language plpgsql as $$
declare
    ready workers;
    closed boolean;
begin
    -- Before the worker's row, in the order of grant_one, so that two of these never wait for each other.
    perform pg_advisory_xact_lock(hashtextextended('stoker:grant:' || w.profile, 0)) from workers w where w.id = p_worker;
    -- Held to the end: a cordon of this node waits for us, and then finds the worker idle and marks it.
    select n.cordoned or n.unschedulable into closed from nodes n join workers w on w.node = n.name where w.id = p_worker
        for share of n;
    if closed then
        select w.state into became from workers w where w.id = p_worker and w.state = 'spawning' and w.endpoint is not null;
        return;
    end if;
    update workers w set state = 'idle', state_since = clock_timestamp(), ready_at = clock_timestamp(),
            node_first_seen = (select n.first_seen from nodes n where n.name = w.node), cordoned = false
        where w.id = p_worker and w.state = 'spawning' and w.endpoint is not null
        returning w.* into ready;
    if not found then return; end if;
    insert into events (kind, profile, worker_id, correlation_id, detail)
        values ('worker.idle', ready.profile, ready.id, ready.correlation_id, jsonb_build_object('from', 'spawning', 'node', ready.node,
                'spawn_ms', round(extract(epoch from clock_timestamp() - ready.created_at) * 1000)));
    update profiles p set failures = 0, backoff_until = null where p.name = ready.profile and p.failures > 0;
    if exists (select from profiles p where p.name = ready.profile and (p.draining or not p.is_current)) then
        perform move_worker(p_worker, ready.epoch, array['idle'], 'draining', 'profile_draining');
    else
        select g.ticket_id, g.wake_key into ticket_id, wake_key from grant_one(ready.profile, p_lease) g;
    end if;
    select w.state into became from workers w where w.id = p_worker;
end $$;

-- The end of a claim by its holder: what the worker became. Null: it was not theirs to end any more (a stale epoch, expired,
-- released before). The caller then offers grant_one what this made free, in a transaction of its own: see there.
create or replace function release_claim(p_worker bigint, p_epoch int, p_tenant text, p_hot interval)
returns text language plpgsql as $$
declare
    held workers;
    after text;
begin
    select w.* into held from workers w where w.id = p_worker and w.epoch = p_epoch and w.tenant = p_tenant
        and w.state in ('activating', 'active');
    if not found then return null; end if;
    after := case
        when p_hot <= interval '0' or held.cordoned or held.activated_at is null
          or exists (select from profiles p where p.name = held.profile and (p.draining or not p.is_current))
        then 'draining' else 'hot_idle' end;
    if move_worker(p_worker, p_epoch, array['activating', 'active'], after, 'released', p_hot) is null then return null; end if;
    return after;
end $$;
