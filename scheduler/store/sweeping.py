"""What time alone undoes: leases, tickets, hot idles and stuck spawns that ran out; history past its keep (I7, I10, I11)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scheduler.core.audit import Row

if TYPE_CHECKING:
    from datetime import timedelta

    from scheduler.store.database import Database


@dataclass(frozen=True, slots=True)
class Expired:
    """Workers to stop, and tenants that have room under their cap again."""

    draining: list[int] = field(default_factory=list)
    tenants: list[str] = field(default_factory=list)


# Each victim is looked at again, locked, in the statement that moves it: a renewal that came first wins.
_EXPIRE = """
select w.id, w.tenant, move_worker(w.id, w.epoch, array[w.state], 'draining', w.reason) as was from (
    select id, epoch, state, tenant,
           case when state = 'activating' then 'activation_expired' when state = 'active' then 'lease_expired'
                else 'hot_idle_over' end as reason
    from workers where (lease_until < now() or hot_until < now()) and ended_at is null
    order by id limit %(most)s for update skip locked) w
"""


def expire(db: Database, at_most: int) -> Expired:
    """End leases and hot idles that ran out. Their workers met a tenant, so they are drained."""
    rows = [row for row in db.rows(_EXPIRE, most=at_most) if row["was"] is not None]
    tenants = {row["tenant"] for row in rows if row["was"] in {"activating", "active"}}
    return Expired([row["id"] for row in rows], sorted(tenants))


def drop_dead_tickets(db: Database, at_most: int) -> int:
    """Remove tickets whose callers are gone. A worker granted to one falls to `expire`, by its activation lease."""
    rows = db.rows(
        "delete from tickets where id = any(array(select id from tickets where expires_at < now() order by id limit %(most)s"
        " for update skip locked)) returning id",
        most=at_most,
    )
    return len(rows)


def stuck_spawns(db: Database, older_than: timedelta, at_most: int) -> list[int]:
    """Workers still spawning after the cut-off, whoever was watching them."""
    rows = db.rows(
        "select id from workers where state = 'spawning' and ended_at is null and created_at < now() - %(age)s"
        " order by id limit %(most)s",
        age=older_than,
        most=at_most,
    )
    return [row["id"] for row in rows]


def retire_never_launched(db: Database, at_most: int) -> int:
    """End draining rows that never had a worker: a slot drained before its launch has nothing to stop."""
    rows = db.rows(
        "select move_worker(w.id, w.epoch, array['draining'], 'retired', 'never_launched') as was from ("
        " select id, epoch from workers where state = 'draining' and ended_at is null and handle is null and launch_until < now()"
        " order by id limit %(most)s for update skip locked) w",
        most=at_most,
    )
    return sum(row["was"] is not None for row in rows)


def retire_unlaunched_now(db: Database) -> None:
    """The same without waiting for a launch that may be under way: only for when nobody is left who could launch."""
    db.rows(
        "select move_worker(id, epoch, array['draining'], 'retired', 'never_launched') from workers"
        " where state = 'draining' and ended_at is null and handle is null"
    )


def live_rows(db: Database, worker_id: int | None = None) -> dict[int, Row]:
    """Every live row (or the one of that number) as the audit compares it with what runs."""
    rows = db.rows(
        "select id, epoch, handle, extract(epoch from now() - coalesce(launched_at, created_at))::float as age_s"
        " from workers where ended_at is null and (%(worker)s::bigint is null or id = %(worker)s)",
        worker=worker_id,
    )
    return {
        row["id"]: Row(row["id"], row["epoch"], row["handle"] and canonical(row["handle"]), row["age_s"])
        for row in rows
    }


def canonical(handle: dict[str, Any]) -> str:
    """A handle as text that is equal when the handles are."""
    return json.dumps(handle, sort_keys=True)


def prune(db: Database, keep: timedelta, at_most: int) -> int:
    """Forget nodes without a live worker, and history past its keep; a bounded batch of each. Rows removed."""
    removed = 0
    removed += len(
        db.rows(
            "delete from nodes n where not cordoned and not exists"
            " (select from workers w where w.node = n.name and w.ended_at is null) returning name"
        )
    )
    for table, column in (("workers", "ended_at"), ("claims", "ended_at"), ("events", "at")):
        old = f"select ctid from {table} where {column} < now() - %(keep)s limit %(most)s"  # noqa: S608 - names from above
        sql = f"delete from {table} where ctid = any(array({old})) returning 1 as one"  # noqa: S608
        removed += len(db.rows(sql, keep=keep, most=at_most))
    return removed
