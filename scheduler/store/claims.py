"""Claims: a tenant's lease on a worker, fenced by an epoch (I1 to I3). Each call is one round trip."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scheduler.core.misses import MissReason
from scheduler.errors import Permanent, Refused

if TYPE_CHECKING:
    from datetime import timedelta

    from scheduler.store.database import Database, Row


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker that is its tenant's until released or expired. (worker_id, epoch) names it and fences out older ones."""

    worker_id: int
    epoch: int
    tenant: str
    profile: str
    endpoint: str
    node: str | None
    origin: str  # hot_idle: the tenant's own again; warm: from the floor; waited: handed over when it became ready
    activation_key: str = field(repr=False)

    @classmethod
    def of(cls, row: Row, tenant: str, profile: str) -> Claim:
        """The claim in a row of claim_worker or of a granted ticket."""
        return cls(
            worker_id=row["worker_id"],
            epoch=row["epoch"],
            tenant=tenant,
            profile=profile,
            endpoint=row["endpoint"],
            node=row["node"],
            origin=row["origin"],
            activation_key=row["activation_key"],
        )


class UnknownTenantError(Refused):
    """No such tenant is known to the database. The caller admits it, if the settings do, and asks again."""


def claim(
    db: Database, tenant: str, profile: str, *, waiter: str, lease: timedelta, correlation_id: str | None = None
) -> Claim | MissReason:
    """Take the tenant's own hot-idle worker, else the idle one on the longest-seen node; or say why there is none.

    Raises:
        UnknownTenantError: the tenant has no row yet.
        Permanent: the profile has no row: the settings were not applied to this database.
    """
    row = db.row(
        "select * from claim_worker(%(tenant)s, %(profile)s, %(waiter)s, %(lease)s, %(correlation)s)",
        tenant=tenant,
        profile=profile,
        waiter=waiter,
        lease=lease,
        correlation=correlation_id,
    )
    assert row is not None, "a function with OUT parameters returns one row"
    if row["worker_id"] is not None:
        return Claim.of(row, tenant, profile)
    if row["reason"] == "unknown_tenant":
        what = f"tenant {tenant!r} is unknown"
        raise UnknownTenantError(what)
    if row["reason"] == "unknown_profile":
        what = f"profile {profile!r} is not in the database"
        raise Permanent(what, expected="the profiles of the settings in force", remedy="run `stoker migrate`")
    return MissReason(row["reason"])


def activated(db: Database, claimed: Claim, lease: timedelta) -> bool:
    """The worker is bound: its lease begins. False: the claim was ended meanwhile, and the worker is not its holder's."""
    return (
        db.row(
            "update workers set state = 'active', state_since = now(), activated_at = clock_timestamp(),"
            " lease_until = now() + %(lease)s"
            " where id = %(worker)s and epoch = %(epoch)s and state = 'activating' returning id",
            worker=claimed.worker_id,
            epoch=claimed.epoch,
            lease=lease,
        )
        is not None
    )


def renew(db: Database, worker_id: int, epoch: int, tenant: str, lease: timedelta) -> bool:
    """Keep the claim for another lease from now. False: it has ended, and the worker may be another claim's."""
    return (
        db.row(
            "update workers set lease_until = now() + %(lease)s"
            " where id = %(worker)s and epoch = %(epoch)s and tenant = %(tenant)s and state = 'active' and lease_until > now()"
            " returning id",
            worker=worker_id,
            epoch=epoch,
            tenant=tenant,
            lease=lease,
        )
        is not None
    )


def release(db: Database, worker_id: int, epoch: int, tenant: str) -> Row | None:
    """End the claim: what its worker became, what is needed to void its token there, its story. None: it had ended before."""
    row = db.row(
        "select release_claim(w.id, %(epoch)s, %(tenant)s, make_interval(secs => (p.spec ->> 'hot_idle_s')::float)) as became,"
        " w.endpoint, w.activation_key, w.profile, w.correlation_id"
        " from workers w join profiles p on p.name = w.profile where w.id = %(worker)s",
        worker=worker_id,
        epoch=epoch,
        tenant=tenant,
    )
    return row if row is not None and row["became"] is not None else None


def abandon(db: Database, claimed: Claim, reason: str) -> bool:
    """Give up on a worker that could not be bound: it is drained, for a worker that met a tenant is never neutral again."""
    row = db.row(
        "select move_worker(%(worker)s, %(epoch)s, array['activating'], 'draining', %(reason)s) as was",
        worker=claimed.worker_id,
        epoch=claimed.epoch,
        reason=reason,
    )
    return row is not None and row["was"] is not None


def admit_tenant(db: Database, tenant: str, cap: int) -> None:
    """Give the tenant a row, with its cap. Knowing it already is fine."""
    db.rows(
        "insert into tenants (name, max_workers, ceiling) values (%(tenant)s, %(cap)s, nullif(%(cap)s, 0))"
        " on conflict do nothing",
        tenant=tenant,
        cap=cap,
    )
