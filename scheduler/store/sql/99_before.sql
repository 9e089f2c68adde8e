-- What services of the version before call, while they and those of this one work side by side: kept for one release.
create or replace function claim_worker(
    p_tenant text, p_profile text, p_waiter text, p_lease interval,
    out reason text, out worker_id bigint, out epoch int, out endpoint text, out activation_key text,
    out node text, out origin text
) language sql as $$
    select * from claim_worker(p_tenant, p_profile, p_waiter, p_lease, null)
$$;

create or replace function take_ticket(
    p_tenant text, p_profile text, p_waiter text, p_wake_key text, p_ttl interval, p_most int
) returns bigint language sql as $$
    select take_ticket(p_tenant, p_profile, p_waiter, p_wake_key, p_ttl, p_most, null)
$$;

create or replace function submit_operation(
    p_kind text, p_target text, p_queue text, p_rank int, p_plan jsonb, p_trail jsonb, p_needs bigint[], p_after bigint[]
) returns table (id bigint, token text, state text, is_new boolean) language sql as $$
    select s.id, s.token, s.state, s.is_new
        from submit_operation(p_kind, p_target, p_queue, p_rank, p_plan, p_trail, p_needs, p_after, null) s
$$;
