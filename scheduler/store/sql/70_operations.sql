-- What a CHECK cannot hold of an operation because it compares its row with what it was.
create or replace function guard_operation() returns trigger language plpgsql as $$
declare
    broken text;
begin
    if old.state <> new.state and (old.state, new.state) not in ({operation_transitions}) then
        broken := 'operation_state_follows_the_table';
    elsif new.step < old.step then
        broken := 'operation_step_never_falls';
    elsif new.plan <> old.plan then
        broken := 'operation_plan_stands';
    end if;
    if broken is not null then
        raise exception 'operation %: %: % at step % must not become % at step %',
            old.id, broken, old.state, old.step, new.state, new.step
            using errcode = 'integrity_constraint_violation', constraint = broken, table = 'operations';
    end if;
    return new;
end $$;

create or replace trigger guard_operation before update on operations for each row execute function guard_operation();

-- A new operation; or the pending one that is wholly equal, which has not begun while its row is held (I28, I20).
create or replace function submit_operation(
    p_kind text, p_target text, p_queue text, p_rank int, p_plan jsonb, p_trail jsonb, p_needs bigint[], p_after bigint[],
    p_correlation text
) returns table (id bigint, token text, state text, is_new boolean, correlation_id text) language plpgsql as $$
declare
    v_links bigint[] := p_needs || p_after;
    v_bad record;
    v_unmet int := 0;
    v_id bigint;
begin
    if cardinality(v_links) = 0 then
        for attempt in 1..10 loop
            select o.id into v_id from operations o
                where o.kind = p_kind and o.target = p_target and o.rank <= p_rank and md5(o.plan::text) = md5(p_plan::text)
                    and o.state = 'queued' and not o.dependent
                order by o.rank, o.id limit 1 for update;
            if found then
                return query update operations o set asked = o.asked + 1 where o.id = v_id
                    returning o.id, o.token, o.state, false, o.correlation_id;
                return;
            end if;
            return query insert into operations as o (kind, target, queue, rank, plan, steps, trail, queued_at, correlation_id)
                values (p_kind, p_target, p_queue, p_rank, p_plan, jsonb_array_length(p_plan), p_trail, clock_timestamp(),
                        p_correlation)
                on conflict do nothing returning o.id, o.token, o.state, true, o.correlation_id;
            if found then return; end if;
        end loop;
        raise exception 'equal operations kept passing each other' using errcode = 'serialization_failure';
    end if;
    -- Held, so that none of them ends between being looked at and being waited for.
    perform 1 from operations o where o.id = any (v_links) order by o.id for share;
    select l.id, o.state into v_bad from unnest(v_links) l (id) left join operations o on o.id = l.id
        where o.id is null or (l.id = any (p_needs) and o.state in ('failed', 'cancelled')) order by l.id limit 1;
    if found then
        raise exception '%', coalesce('operation ' || v_bad.id || ' has ' || v_bad.state || ', and is needed',
            'operation ' || v_bad.id || ' is not known') using errcode = 'no_data_found';
    end if;
    select count(*) into v_unmet from operations o where o.id = any (v_links) and o.ended_at is null;
    insert into operations as o (kind, target, queue, rank, plan, steps, trail, state, unmet, dependent, queued_at,
                correlation_id)
        values (p_kind, p_target, p_queue, p_rank, p_plan, jsonb_array_length(p_plan), p_trail,
                case when v_unmet > 0 then 'waiting' else 'queued' end, v_unmet, true,
                case when v_unmet = 0 then clock_timestamp() end, p_correlation)
        returning o.id into v_id;
    insert into operation_needs (operation_id, on_id, must_succeed)
        select v_id, l.id, l.id = any (p_needs) from (select distinct unnest(v_links) as id) l;
    return query select o.id, o.token, o.state, true, o.correlation_id from operations o where o.id = v_id;
end $$;

-- A run begins for the operations whose turn this step is; the first of them led. All of them count as begun from here on,
-- so that nobody is told any more that his equal request waits with one of them.
create or replace function begin_run(
    p_ids bigint[], p_positions int[], p_task_id text, p_task text, p_key text, p_lane text, p_queue text, p_attempt int,
    p_lane_wait_s float, p_wait_s float, p_defers int, p_folded int, p_lease interval
) returns table (verdict text, run bigint, holder text, lease_left_s float) language plpgsql as $$
declare
    v_due bigint[];
    v_run bigint;
    v_holder runs;
    v_leader operations;
begin
    perform 1 from operations o where o.id = any (p_ids) order by o.id for update;
    select coalesce(array_agg(o.id), '{}') into v_due from unnest(p_ids, p_positions) u (id, position)
        join operations o on o.id = u.id and o.step = u.position and o.state in ('queued', 'running');
    if cardinality(v_due) = 0 then
        select * into v_leader from operations o where o.id = p_ids[1];
        return query select case when v_leader.step > p_positions[1] then 'done' else 'ended' end, null::bigint, null, null::float;
        return;
    end if;
    loop
        insert into runs as r (task, key, lane, queue, operation_id, task_id, attempt, served, lane_wait_s, wait_s, defers,
                    folded, folded_at_worker, lease_until)
            values (p_task, p_key, p_lane, p_queue, p_ids[1], p_task_id, p_attempt, cardinality(v_due), p_lane_wait_s, p_wait_s,
                    p_defers, p_folded, (select least(count(*) filter (where q > 0), p_folded) from unnest(p_positions[2:]) q),
                    clock_timestamp() + p_lease)
            on conflict (lane) where r.state = 'running' do nothing returning r.id into v_run;
        exit when v_run is not null;
        select * into v_holder from runs r where r.lane = p_lane and r.state = 'running' for update;
        if v_holder.lease_until > clock_timestamp() then
            return query select 'busy', v_holder.id, v_holder.task_id,
                extract(epoch from v_holder.lease_until - clock_timestamp())::float;
            return;
        end if;
        update runs r set state = 'lost', ended_at = clock_timestamp(), error = 'its lease ended'
            where r.id = v_holder.id and r.state = 'running';
    end loop;
    update operations o set state = 'running', began_at = coalesce(o.began_at, clock_timestamp()), seen_at = now()
        where o.id = any (v_due);
    return query select 'run', v_run, null, null::float;
end $$;

-- These have ended: whoever waits for them is told, who came after them is queued, who needed what failed fails with it.
create or replace function end_operations(p_ended bigint[]) returns table (id bigint, token text) language plpgsql as $$
declare
    v_ended bigint[] := p_ended;
    v_failed bigint[];
begin
    while cardinality(v_ended) > 0 loop
        perform pg_notify('stoker_operations', o.id::text) from operations o where o.id = any (v_ended) and o.awaited;
        return query with met as (
            select n.operation_id, count(*)::int as met from operation_needs n join operations d on d.id = n.on_id
                where n.on_id = any (v_ended) and (d.state = 'succeeded' or not n.must_succeed) group by 1
        ), moved as (
            update operations o set unmet = o.unmet - m.met,
                    state = case when o.unmet = m.met then 'queued' else o.state end,
                    queued_at = case when o.unmet = m.met then clock_timestamp() end, seen_at = now()
                from met m where o.id = m.operation_id and o.state = 'waiting' returning o.id, o.token, o.state
        ) select moved.id, moved.token from moved where moved.state = 'queued';
        with doomed as (
            update operations o set state = 'failed', ended_at = clock_timestamp(),
                    error = 'needs operation ' || d.id || ', which ' || d.state
                from operation_needs n join operations d on d.id = n.on_id
                where n.on_id = any (v_ended) and n.must_succeed and d.state <> 'succeeded' and o.id = n.operation_id
                    and o.state = 'waiting' returning o.id
        ) select coalesce(array_agg(doomed.id), '{}') into v_failed from doomed;
        v_ended := v_failed;
    end loop;
end $$;

-- A run ends, for every operation that it served: one statement, whatever their number. Fenced by the run's own row: of an
-- execution that was given up for lost meanwhile nothing is believed. Returns the operations that are to be published.
create or replace function end_run(
    p_run bigint, p_state text, p_error text, p_ids bigint[], p_positions int[], p_entries jsonb
) returns table (verdict text, id bigint, token text) language plpgsql as $$
declare
    v_run runs;
    v_entry jsonb;
    v_ended bigint[];
begin
    update runs r set state = p_state, ended_at = clock_timestamp(), error = left(p_error, 4000)
        where r.id = p_run and r.state = 'running' returning * into v_run;
    if not found then
        return query select 'lost', null::bigint, null;
        return;
    end if;
    v_entry := jsonb_strip_nulls(jsonb_build_object('run', v_run.id, 'task', v_run.task, 'state', p_state,
        'attempt', v_run.attempt, 'queue', v_run.queue, 'lane_wait_s', v_run.lane_wait_s, 'wait_s', v_run.wait_s,
        'defers', v_run.defers, 'folded', v_run.folded, 'began_at', v_run.began_at, 'ended_at', v_run.ended_at, 'error', left(p_error, 300)));
    perform 1 from operations o where o.id = any (p_ids) order by o.id for update;
    with moved as (
        update operations o set seen_at = now(),
                trail = o.trail || (v_entry || jsonb_build_object('step', o.step) || (p_entries -> u.place::int - 1)),
                step = o.step + (p_state = 'succeeded')::int,
                state = case when p_state = 'succeeded' and o.step + 1 = o.steps then 'succeeded'
                             when p_state = 'failed' then 'failed' else 'running' end,
                error = case when p_state = 'failed' then left(p_error, 4000) end,
                ended_at = case when p_state = 'failed' or (p_state = 'succeeded' and o.step + 1 = o.steps)
                                then clock_timestamp() end
            from unnest(p_ids, p_positions) with ordinality u (id, position, place)
            where o.id = u.id and o.step = u.position and o.state = 'running' returning o.id, o.ended_at
    ) select coalesce(array_agg(moved.id) filter (where moved.ended_at is not null), '{}') into v_ended from moved;
    return query select 'ended', null::bigint, null;
    return query select 'release', e.id, e.token from end_operations(v_ended) e;
end $$;

-- It is not wanted any more. Null when it has ended; else the step at which it stood, and the operations to publish.
create or replace function cancel_operation(p_id bigint) returns table (step int, id bigint, token text) language plpgsql as $$
declare
    v_step int;
    v_token text;
begin
    update operations o set state = 'cancelled', ended_at = clock_timestamp()
        where o.id = p_id and o.ended_at is null returning o.step, o.token into v_step, v_token;
    if not found then return; end if;
    return query select v_step, p_id, v_token;
    return query select null::int, e.id, e.token from end_operations(array[p_id]) e;
end $$;
