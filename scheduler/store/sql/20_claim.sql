-- I1, I2, I3: one round trip gives a tenant a worker, or the reason why not.
--
-- Statements of a volatile function see what is committed when each begins, so the cap is judged by the row as it is now
-- and not by a count in an older snapshot: `live < max_workers` is checked again after any wait for the row's lock.
-- Locks are taken worker first, cap and tenant second, here as everywhere.
create or replace function claim_worker(
    p_tenant text, p_profile text, p_waiter text, p_lease interval, p_correlation text,
    out reason text, out worker_id bigint, out epoch int, out endpoint text, out activation_key text,
    out node text, out origin text
) language plpgsql as $$
declare
    asked timestamptz;
    cap int;
begin
    select w.id, 'hot_idle' into worker_id, origin from workers w
        where w.tenant = p_tenant and w.profile = p_profile and w.state = 'hot_idle' and w.hot_until > now()
        order by w.id limit 1 for update skip locked;
    if not found then
        select w.id, 'warm' into worker_id, origin from workers w
            where w.profile = p_profile and w.state = 'idle' and not w.cordoned
            order by w.node_first_seen, w.id limit 1 for update skip locked;
        if not found then
            reason := claim_miss(p_tenant, p_profile);
            return;
        end if;
    end if;
    -- is_capped, written out: here it also says whether there is such a tenant.
    perform pg_advisory_xact_lock_shared(hashtextextended('stoker:cap:' || p_tenant, 0));
    select t.max_workers into cap from tenants t where t.name = p_tenant;
    if cap > 0 then
        update tenants t set live = live + 1 where t.name = p_tenant and t.live < t.max_workers;
    end if;
    if not found then
        worker_id := null;
        origin := null;
        reason := claim_miss(p_tenant, p_profile);
        return;
    end if;
    -- A caller who asked before without waiting left a ticket; served, it is no demand any more.
    delete from tickets k where k.tenant = p_tenant and k.profile = p_profile and k.waiter = p_waiter
        and k.worker_id is null returning k.asked_at into asked;
    update workers w set state = 'activating', tenant = p_tenant, epoch = w.epoch + 1, state_since = now(),
            asked_at = coalesce(asked, now()), claimed_at = greatest(clock_timestamp(), asked),
            lease_until = clock_timestamp() + p_lease, hot_until = null, correlation_id = p_correlation,
            origin = claim_worker.origin
        where w.id = claim_worker.worker_id
        returning w.epoch, w.endpoint, w.activation_key, w.node
        into epoch, endpoint, activation_key, node;
end $$;

-- Why a claim found nothing. Only no_warm is demand: in every other case more workers would not help this tenant.
create or replace function claim_miss(p_tenant text, p_profile text) returns text language plpgsql stable as $$
declare
    asking tenants;
    asked profiles;
begin
    select * into asked from profiles p where p.name = p_profile;
    if not found then return 'unknown_profile'; end if;
    select * into asking from tenants t where t.name = p_tenant;
    if not found then return 'unknown_tenant'; end if;
    if asked.draining or not asked.is_current then return 'draining'; end if;
    if asking.max_workers > 0 and asking.live >= asking.max_workers then return 'tenant_cap'; end if;
    if asked.max_workers > 0 and asked.max_workers <=
        (select count(*) from workers w where w.profile = p_profile and w.ended_at is null and w.state <> 'spawning')
        then return 'profile_cap'; end if;
    return 'no_warm';
end $$;
