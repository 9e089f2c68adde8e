"""What happened: the events of workers and ticks, and the claims, as one stream by time. Flower forgets; this does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scheduler.store.database import Database, Row

_EVENTS = """
with story as (
    select at, kind, profile, worker_id, tenant, detail, correlation_id from events
    union all
    select claimed_at, 'claim.begun', profile, worker_id, tenant,
           jsonb_build_object('epoch', epoch, 'origin', origin, 'node', node,
                              'waited_ms', round(extract(epoch from claimed_at - asked_at) * 1000)), correlation_id
    from every_claim
    union all
    select ended_at, 'claim.ended', profile, worker_id, tenant, jsonb_build_object('epoch', epoch, 'reason', end_reason),
           correlation_id
    from every_claim where ended_at is not null
    union all
    select submitted_at, 'operation.submitted', null, null, null,
           jsonb_build_object('operation', id, 'kind', kind, 'target', target, 'queue', queue, 'asked', asked), correlation_id
    from operations where correlation_id = %(correlation)s::text
    union all
    select (e ->> 'ended_at')::timestamptz, 'step.' || (e ->> 'state'), null, null, null,
           jsonb_build_object('operation', id) || (e - array['ended_at', 'state', 'changes']), correlation_id
    from operations, jsonb_array_elements(trail) e where correlation_id = %(correlation)s::text and e ? 'step'
    union all
    select ended_at, 'operation.' || state, null, null, null, jsonb_build_object('operation', id, 'error', error), correlation_id
    from operations where correlation_id = %(correlation)s::text and ended_at is not null)
select * from story
where (%(tenant)s::text is null or tenant = %(tenant)s) and (%(kind)s::text is null or starts_with(kind, %(kind)s))
  and (%(worker)s::bigint is null or worker_id = %(worker)s)
  and (%(correlation)s::text is null or correlation_id = %(correlation)s)
order by at desc limit %(most)s
"""

# What must never be found. Each row is a violation, seen from the record alone.
_DOUBLE_CLAIMS = """
select a.worker_id, a.epoch, a.tenant, b.epoch as other_epoch, b.tenant as other_tenant
from every_claim a join every_claim b on a.worker_id = b.worker_id and a.epoch < b.epoch
where b.claimed_at < coalesce(a.ended_at, 'infinity')
"""
_CROSS_TENANT = """
select worker_id, array_agg(distinct tenant) as tenants from every_claim group by worker_id having count(distinct tenant) > 1
"""
_MISCOUNTED = """
select t.name as tenant, t.live, count(w.id)::int as held from tenants t
left join workers w on w.tenant = t.name and w.lease_until is not null
where t.max_workers > 0
group by t.name, t.live having t.live <> count(w.id)
"""


def events(
    db: Database,
    *,
    limit: int = 100,
    kind: str | None = None,
    tenant: str | None = None,
    worker: int | None = None,
    correlation_id: str | None = None,
) -> list[Row]:
    """The latest events, newest first; of a kind (by its beginning), a tenant or a worker.

    Of one correlation id: its operations too, and each of their steps, by whichever run it was served.
    """
    return db.rows(_EVENTS, most=limit, kind=kind, tenant=tenant, worker=worker, correlation=correlation_id)


def double_claims(db: Database) -> list[Row]:
    """Claims that overlapped another of the same worker (I1). Must be empty."""
    return db.rows(_DOUBLE_CLAIMS)


def cross_tenant(db: Database) -> list[Row]:
    """Workers that served more than one tenant (I1). Must be empty."""
    return db.rows(_CROSS_TENANT)


def miscounted_tenants(db: Database) -> list[Row]:
    """Tenants with a cap whose count of claims is not what their workers say. Must be empty."""
    return db.rows(_MISCOUNTED)
