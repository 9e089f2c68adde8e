"""Scale-down (I9): plan over the idle, then drain by a statement that looks again at each victim and at the floor."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from scheduler.core.reap import IdleWorker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from scheduler.store.database import Connection, Database

# What closes a node to claims: an operator, or the platform.
_MARK_WORKERS: LiteralString = (
    "update workers w set cordoned = n.cordoned or n.unschedulable from nodes n"
    " where n.name = any(%(names)s) and w.node = n.name and w.ended_at is null"
)


def idle_workers(db: Database, profile: str) -> tuple[datetime | None, list[IdleWorker]]:
    """The profile's idle workers, and the database's now."""
    rows = db.rows(
        "select id, ready_at, node_first_seen, cordoned, now() as now from workers where profile = %(profile)s and state = 'idle'"
        " and ended_at is null",
        profile=profile,
    )
    found = [IdleWorker(row["id"], row["ready_at"], row["node_first_seen"], closed=row["cordoned"]) for row in rows]
    return (rows[0]["now"] if rows else None), found


def drain_idle(
    db: Database, profile: str, victims: list[int], keep: int, idle_timeout: timedelta, reason: str
) -> list[int]:
    """Drain those victims that are still idle, still stale and still more than are to be kept. Claimed meanwhile: left alone."""

    def work(connection: Connection) -> list[int]:
        # One reaper a profile at a time, or two of them would each see the same surplus.
        connection.execute("select from profiles where name = %(profile)s for update", {"profile": profile})
        rows = connection.execute(
            "select w.id, move_worker(w.id, w.epoch, array['idle'], 'draining', %(reason)s) as was from ("
            "  select id, epoch, cordoned, row_number() over (partition by cordoned order by array_position(%(victims)s, id)) n"
            "  from (select id, epoch, cordoned from workers where id = any(%(victims)s) and state = 'idle'"
            "        and ready_at < now() - %(timeout)s for update skip locked) stale) w,"
            " (select count(*) - %(keep)s as shut, count(*) filter (where not cordoned) - %(keep)s as open from workers"
            "  where profile = %(profile)s and state = 'idle' and ended_at is null) surplus"
            " where w.n <= case when w.cordoned then surplus.shut else surplus.open end order by w.cordoned desc, w.n",
            {"victims": victims, "profile": profile, "keep": keep, "timeout": idle_timeout, "reason": reason},
        ).fetchall()
        return [row["id"] for row in rows if row["was"] is not None]

    return db.transaction(work)


def stale_profiles(db: Database) -> list[str]:
    """Profiles that the settings no longer hold but that still have idle workers."""
    rows = db.rows(
        "select distinct w.profile from workers w join profiles p on p.name = w.profile"
        " where w.ended_at is null and w.state = 'idle' and (not p.is_current or p.draining)"
    )
    return [row["profile"] for row in rows]


def drain(
    db: Database, *, worker: int | None = None, profile: str | None = None, node: str | None = None, reason: str
) -> list[int]:
    """Drain what an operator names: a worker whatever it does; of a profile, a node or all, those that serve nobody."""
    rows = db.rows(
        "select w.id, move_worker(w.id, w.epoch, array[w.state], 'draining', %(reason)s) as was from ("
        "  select id, epoch, state from workers where ended_at is null and state <> 'draining'"
        "  and (%(worker)s::bigint is null or id = %(worker)s) and (%(profile)s::text is null or profile = %(profile)s)"
        "  and (%(node)s::text is null or node = %(node)s)"
        "  and (%(worker)s::bigint is not null or state in ('idle', 'hot_idle', 'spawning')) for update) w",
        worker=worker,
        profile=profile,
        node=node,
        reason=reason,
    )
    return [row["id"] for row in rows if row["was"] is not None]


def drain_all(db: Database, reason: str) -> None:
    """Drain every live worker, whatever it does: the installation stops."""
    db.rows(
        "select move_worker(id, epoch, array[state], 'draining', %(reason)s) from workers"
        " where ended_at is null and state <> 'draining' order by id",
        reason=reason,
    )


def set_draining(db: Database, profile: str, *, draining: bool) -> bool:
    """Open or close a profile to claims. False: no such current profile."""
    return (
        db.row(
            "update profiles set draining = %(draining)s where name = %(profile)s and is_current returning name",
            profile=profile,
            draining=draining,
        )
        is not None
    )


def cordon(db: Database, node: str, *, cordoned: bool) -> bool:
    """Stop or resume offering a node's workers. False: no such node.

    Opened again, nothing backs off any more: spawns may have come to nothing because it was closed.
    """

    def work(connection: Connection) -> bool:
        found = connection.execute(
            "update nodes set cordoned = %(cordoned)s where name = %(node)s returning name",
            {"node": node, "cordoned": cordoned},
        ).fetchone()
        connection.execute(_MARK_WORKERS, {"names": [node]})
        if found is not None and not cordoned:
            connection.execute("update profiles set failures = 0, backoff_until = null where failures > 0")
        return found is not None

    return db.transaction(work)


def follow_platform(db: Database, marks: Mapping[str, bool]) -> dict[str, bool]:
    """Close and open nodes as the platform does; those that changed. What an operator closed here stays closed."""

    def work(connection: Connection) -> dict[str, bool]:
        changed = connection.execute(
            "update nodes n set unschedulable = m.mark from unnest(%(names)s::text[], %(marks)s::boolean[]) m (name, mark)"
            " where n.name = m.name and n.unschedulable <> m.mark returning n.name, n.unschedulable",
            {"names": list(marks), "marks": list(marks.values())},
        ).fetchall()
        if changed:
            connection.execute(_MARK_WORKERS, {"names": [row["name"] for row in changed]})
        return {row["name"]: row["unschedulable"] for row in changed}

    return db.transaction(work)
