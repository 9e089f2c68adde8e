-- Adds to counters: rows of {"metric", "labels", "edge": null for none, "many", "total"}. In one order, so that two who add
-- at once wait for each other and never in a circle.
create or replace function tally(p_rows jsonb) returns void language sql as $$
    insert into tallies as t (metric, labels, edge, many, total)
        select metric, labels, coalesce(edge, 'infinity'), sum(many), sum(coalesce(total, 0))
            from jsonb_to_recordset(p_rows) r (metric text, labels jsonb, edge float, many bigint, total float)
            where many > 0 group by 1, 2, 3 order by 1, 2, 3
        on conflict (metric, labels, edge) do update set many = t.many + excluded.many, total = t.total + excluded.total
$$;

-- Counts runs and operations that have ended and were not counted, each once, whoever asks and how often; how many those were.
-- A run that is to run again leaves its requests to the one that follows.
create or replace function count_ended(p_most int) returns int language plpgsql as $$
declare
    v_runs int;
    v_operations int;
    v_rows jsonb;
begin
    with fresh as materialized (
        update runs r set counted = true where r.id = any (array(
                select u.id from runs u where u.ended_at is not null and not u.counted order by u.ended_at limit p_most
                for update skip locked))
            returning r.id, r.task, r.lane, r.state, r.folded, r.folded_at_worker, r.began_at,
                r.began_at - make_interval(secs => r.wait_s) as asked_at,
                regexp_replace(r.key, ' [0-9a-f]{32}$', '') as key
    ), around as materialized (
        select a.id, a.lane, a.began_at, regexp_replace(a.key, ' [0-9a-f]{32}$', '') as key from runs a
            where a.ended_at > (select greatest(min(f.asked_at), now() - interval '10 minutes') from fresh f)
    ), missed as (
        -- It waited for a second already when an equal run of its lane began, and did not share that one. A second, because
        -- what is told by two clocks and by two engines is not told to the millisecond.
        select f.task, count(*) as many from fresh f where f.asked_at < f.began_at - interval '1 second' and exists (
            select 1 from around a where a.lane = f.lane and a.key = f.key and a.id <> f.id
                and a.began_at > f.asked_at + interval '1 second' and a.began_at < f.began_at) group by 1
    ), counted (metric, labels, many) as (
        select 'stoker_step_runs', jsonb_build_object('step', task, 'state', state), count(*) from fresh group by 2
        union all
        select 'stoker_step_requests', jsonb_build_object('step', task), sum(1 + folded)
            from fresh where state in ('succeeded', 'failed') group by 2
        union all
        select 'stoker_folds', jsonb_build_object('step', task, 'where', 'on_submit'), sum(folded - folded_at_worker)
            from fresh where state in ('succeeded', 'failed') group by 2
        union all
        select 'stoker_folds', jsonb_build_object('step', task, 'where', 'at_worker'), sum(folded_at_worker)
            from fresh where state in ('succeeded', 'failed') group by 2
        union all
        select 'stoker_folds_missed', jsonb_build_object('step', task), many from missed
    ) select (select count(*) from fresh), jsonb_agg(to_jsonb(counted)) into v_runs, v_rows from counted;
    perform tally(v_rows);

    with fresh as materialized (
        update operations o set counted = true where o.id = any (array(
                select u.id from operations u where u.ended_at is not null and not u.counted order by u.ended_at limit p_most
                for update skip locked))
            returning o.kind, o.state, o.asked, o.plan, o.trail -> 0 as first
    ), spared as (
        -- Of a submit that was answered with a pending operation all steps folded; of any, those equal to another of its own.
        select s.value ->> 'task' as step, 'equal_operation' as place, (f.asked - 1)::numeric as many
            from fresh f cross join jsonb_array_elements(f.plan) s where f.asked > 1
        union all
        select s.key, 'in_operation', s.value::numeric * f.asked from fresh f
            cross join jsonb_each_text(f.first -> 'tasks') s where f.first ->> 'where' = 'in_operation'
    ), counted (metric, labels, many) as (
        select 'stoker_operations_submitted', jsonb_build_object('kind', kind), sum(asked) from fresh group by 2
        union all
        select 'stoker_operations_ended', jsonb_build_object('kind', kind, 'state', state), count(*) from fresh group by 2
        union all
        select 'stoker_folds', jsonb_build_object('step', step, 'where', place), sum(many) from spared group by 2
        union all
        select 'stoker_step_requests', jsonb_build_object('step', step), sum(many) from spared group by 2
    ) select (select count(*) from fresh), jsonb_agg(to_jsonb(counted)) into v_operations, v_rows from counted;
    perform tally(v_rows);
    return v_runs + v_operations;
end $$;
