-- I4: a waiting claim is matched with a worker here and nowhere else, one match a transaction.
--
-- Every path that could make a match possible (a ticket is taken, a worker is ready, a claim ends, a cap is raised) first
-- makes its change visible and then calls this under the profile's lock; whichever of two such paths is second sees what
-- the first one wrote. One match a transaction, because two transactions that each held one tenant's row and wanted the
-- other's would deadlock. scheduler/core/rotation.py is the model of the order.
create or replace function grant_one(p_profile text, p_lease interval, out ticket_id bigint, out wake_key text)
language plpgsql as $$
declare
    next record;
    chosen record;
begin
    if not exists (select from tickets k where k.profile = p_profile and k.worker_id is null and k.wake_key is not null)
        then return; end if;
    perform pg_advisory_xact_lock(hashtextextended('stoker:grant:' || p_profile, 0));
    select k.id, k.tenant, k.asked_at, k.wake_key, k.correlation_id into next
        from tickets k
        join tenants t on t.name = k.tenant and (t.max_workers = 0 or t.live < t.max_workers)
        where k.profile = p_profile and k.worker_id is null and k.wake_key is not null
          and k.expires_at > clock_timestamp()
          and (exists (select from workers w where w.profile = p_profile and w.state = 'idle' and not w.cordoned)
               or exists (select from workers w where w.tenant = k.tenant and w.profile = p_profile
                          and w.state = 'hot_idle' and w.hot_until > clock_timestamp()))
        order by greatest(t.turn_at, min(k.asked_at) over (partition by k.tenant)), k.asked_at, k.id limit 1;
    if not found then return; end if;
    select w.id, w.epoch into chosen from workers w
        where w.tenant = next.tenant and w.profile = p_profile and w.state = 'hot_idle' and w.hot_until > clock_timestamp()
        order by w.id limit 1 for update skip locked;
    if not found then
        select w.id, w.epoch into chosen from workers w
            where w.profile = p_profile and w.state = 'idle' and not w.cordoned
            order by w.node_first_seen, w.id limit 1 for update skip locked;
        -- All are in somebody's hands at this instant. If one is let go again, the next tick makes the match.
        if not found then return; end if;
    end if;
    if is_capped(next.tenant) then
        update tenants t set live = live + 1, turn_at = clock_timestamp()
            where t.name = next.tenant and t.live < t.max_workers;
    else
        update tenants t set turn_at = clock_timestamp() where t.name = next.tenant;
    end if;
    if not found then return; end if;
    update workers w set state = 'activating', tenant = next.tenant, epoch = w.epoch + 1, state_since = clock_timestamp(),
            asked_at = next.asked_at, claimed_at = greatest(clock_timestamp(), next.asked_at),
            lease_until = clock_timestamp() + p_lease, hot_until = null, origin = 'waited',
            correlation_id = next.correlation_id
        where w.id = chosen.id;
    update tickets k set worker_id = chosen.id, epoch = chosen.epoch + 1 where k.id = next.id;
    ticket_id := next.id;
    wake_key := next.wake_key;
end $$;

-- Take a place in the queue, or keep the one this caller has: a caller that asks a thousand times is one demand (I5).
-- Null: the tenant has as many tickets as it may have.
create or replace function take_ticket(
    p_tenant text, p_profile text, p_waiter text, p_wake_key text, p_ttl interval, p_most int, p_correlation text
) returns bigint language plpgsql as $$
declare
    mine bigint;
begin
    update tickets k set expires_at = clock_timestamp() + p_ttl, wake_key = p_wake_key
        where k.tenant = p_tenant and k.profile = p_profile and k.waiter = p_waiter and k.worker_id is null
        returning k.id into mine;
    if found then return mine; end if;
    if (select count(*) from tickets k where k.tenant = p_tenant) >= p_most then return null; end if;
    insert into tickets as k (tenant, profile, waiter, wake_key, expires_at, correlation_id)
        values (p_tenant, p_profile, p_waiter, p_wake_key, clock_timestamp() + p_ttl, p_correlation)
        on conflict (tenant, profile, waiter) do update set expires_at = excluded.expires_at
        returning k.id into mine;
    return mine;
end $$;
