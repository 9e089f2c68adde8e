"""Tickets: claims that wait (I4, I5). A ticket somebody listens for is granted a worker; any live one is demand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.store.claims import Claim

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import timedelta

    from scheduler.store.database import Database


@dataclass(frozen=True, slots=True)
class Grant:
    """A ticket that was given a worker, and where its caller listens."""

    ticket_id: int
    wake_key: str


def take(
    db: Database,
    tenant: str,
    profile: str,
    *,
    waiter: str,
    wake_key: str | None,
    ttl: timedelta,
    at_most: int,
    correlation_id: str | None = None,
) -> int | None:
    """A place in the queue, or the one this waiter has already; None: the tenant has as many as it may.

    The ticket is committed when this returns: offer the profile's workers with `grant` then, so that one that became free
    while it was being written is not missed.
    """
    row = db.row(
        "select take_ticket(%(tenant)s, %(profile)s, %(waiter)s, %(wake)s, %(ttl)s, %(most)s, %(correlation)s) as id",
        tenant=tenant,
        profile=profile,
        waiter=waiter,
        wake=wake_key,
        ttl=ttl,
        most=at_most,
        correlation=correlation_id,
    )
    return None if row is None else row["id"]


def grant(db: Database, profile: str, *, lease: timedelta, at_most: int) -> list[Grant]:
    """Match the profile's waiting claims with free workers, in turn, until one of the two runs out."""
    granted: list[Grant] = []
    while len(granted) < at_most:
        row = db.row("select * from grant_one(%(profile)s, %(lease)s)", profile=profile, lease=lease)
        if row is None or row["ticket_id"] is None:
            break
        granted.append(Grant(row["ticket_id"], row["wake_key"]))
    return granted


def profiles_awaited_by(db: Database, tenants: Collection[str]) -> list[str]:
    """Profiles for which one of the tenants waits and listens."""
    rows = db.rows(
        "select distinct profile from tickets where tenant = any(%(tenants)s) and worker_id is null and wake_key is not null",
        tenants=list(tenants),
    )
    return [row["profile"] for row in rows]


def keep_alive(db: Database, tickets: Collection[int], ttl: timedelta) -> dict[int, bool]:
    """Say that these tickets' callers live: which tickets there still are, and whether each has been granted."""
    rows = db.rows(
        "update tickets set expires_at = clock_timestamp() + %(ttl)s where id = any(%(ids)s) returning id, worker_id",
        ids=list(tickets),
        ttl=ttl,
    )
    return {row["id"]: row["worker_id"] is not None for row in rows}


def give_back(db: Database, ticket: int) -> Claim | None:
    """End the ticket: the claim it was granted, if it was. Also how a caller that stops waiting learns that it just won."""
    row = db.row(
        # Not waiting for the disk: a ticket that a crash of the server brings back is a dead caller's, and ends as those do.
        "with fast as materialized (select set_config('synchronous_commit', 'off', true) as mode),"
        " ended as (delete from tickets using fast where id = %(id)s and mode = 'off'"
        "           returning tenant, profile, worker_id, epoch)"
        " select e.tenant, e.profile, w.id as worker_id, w.epoch, w.endpoint, w.node, w.origin, w.activation_key"
        " from ended e join workers w on w.id = e.worker_id and w.epoch = e.epoch and w.state = 'activating'",
        id=ticket,
    )
    return None if row is None else Claim.of(row, row["tenant"], row["profile"])
