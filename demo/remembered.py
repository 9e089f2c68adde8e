"""The run as the database remembers it: claims, workers, reconciles, and what it finds wrong in its own record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from demo.record import ClaimRow, History, ReconcileRow, WorkerRow
from scheduler.store import history

if TYPE_CHECKING:
    from scheduler.store.database import Database

_CLAIMS = """
select worker_id, epoch, tenant, node, origin, extract(epoch from asked_at)::float as asked_at,
       extract(epoch from claimed_at)::float as claimed_at, extract(epoch from activated_at)::float as activated_at,
       extract(epoch from ended_at)::float as ended_at, end_reason
from every_claim order by claimed_at, worker_id
"""
_WORKERS = """
select id, node, extract(epoch from node_first_seen)::float as node_first_seen,
       extract(epoch from created_at)::float as created_at, extract(epoch from ready_at)::float as ready_at,
       extract(epoch from ended_at)::float as ended_at, failure as cause
from workers order by id
"""
_RECONCILES = """
select extract(epoch from at)::float as at, (detail ->> 'created')::int as created, (detail ->> 'deficit')::int as deficit,
       (detail ->> 'demand')::int as demand
from events where kind = 'reconcile' order by at, id
"""


def remembered(db: Database) -> History:
    """The whole history of this database."""
    return History(
        claims=[ClaimRow(**row) for row in db.rows(_CLAIMS)],
        workers=[WorkerRow(**row) for row in db.rows(_WORKERS)],
        reconciles=[ReconcileRow(**row) for row in db.rows(_RECONCILES)],
        double_claims=len(history.double_claims(db)),
        cross_tenant=len(history.cross_tenant(db)),
        miscounted_tenants=len(history.miscounted_tenants(db)),
    )
