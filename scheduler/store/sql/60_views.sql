-- Every claim there is a record of: those that have ended, and those that live as columns of their worker's row.
create or replace view every_claim as
select worker_id, epoch, tenant, profile, node, node_first_seen, origin, asked_at, claimed_at, activated_at, ended_at, end_reason
from claims
union all
select id, epoch, tenant, profile, node, node_first_seen, origin, asked_at, claimed_at, activated_at, null, null
from workers where lease_until is not null;
