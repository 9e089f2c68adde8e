-- Every claim there is a record of: those that have ended, and those that live as columns of their worker's row.
create or replace view every_claim as
select worker_id, epoch, tenant, profile, node, node_first_seen, origin, asked_at, claimed_at, activated_at, ended_at, end_reason,
    correlation_id
from claims
union all
select id, epoch, tenant, profile, node, node_first_seen, origin, asked_at, claimed_at, activated_at, null, null,
    correlation_id
from workers where lease_until is not null;

-- An operation as people see it. Its columns stay as they are for one release: the version before reads all of them by a
-- prepared statement, and PostgreSQL refuses one whose columns have become others.
create or replace view every_operation as
select id, kind, target, queue, state, steps, step, unmet, asked, error, submitted_at, queued_at, began_at, ended_at, plan, trail,
    extract(epoch from coalesce(ended_at, clock_timestamp()) - submitted_at)::float as took_s,
    array(select on_id from operation_needs n where n.operation_id = o.id and must_succeed order by 1) as needs,
    array(select on_id from operation_needs n where n.operation_id = o.id and not must_succeed order by 1) as after,
    array(select operation_id from operation_needs n where n.on_id = o.id order by 1) as awaited_by
from operations o;
