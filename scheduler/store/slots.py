"""Slots: workers that were decided. The effect of core.capacity: load, decide, revalidate under a lock, create (I6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.core.capacity import CapacityPlan, CapacitySnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime, timedelta

    from scheduler.store.database import Connection, Database, Row


@dataclass(frozen=True, slots=True)
class Slot:
    """A worker to launch. `attempt` fences the launch: a message of an earlier attempt launches nothing."""

    worker_id: int
    attempt: int
    correlation_id: str | None = None  # of the claim that waits for it, if it was made for one


@dataclass(frozen=True, slots=True)
class Seen:
    """All current profiles at one instant of the database's clock."""

    now: datetime
    profiles: dict[str, CapacitySnapshot]
    live: dict[str, int]  # live workers by canonical profile, of profiles that are no longer current too


# One statement, however many profiles: the counts come from one pass over the index of live workers.
_SNAPSHOT = """
with counted as (
    select profile, count(*) filter (where state = 'idle' and not cordoned) as idle,
           count(*) filter (where state = 'spawning') as spawning, count(*) as live
    from workers where ended_at is null group by profile),
waiting as (
    select k.profile, k.tenant, count(*) as tickets from tickets k
    where k.worker_id is null and k.expires_at > now() group by k.profile, k.tenant),
wanted as (
    select k.profile, sum(case when t.max_workers = 0 then k.tickets
                               else least(k.tickets, greatest(t.max_workers - t.live, 0)) end)::int as demand
    from waiting k join tenants t on t.name = k.tenant group by k.profile)
select coalesce(p.name, c.profile) as name, now() as now, p.max_workers, p.backoff_until, p.draining,
       coalesce(p.is_current, false) as is_current, coalesce(c.idle, 0) as idle, coalesce(c.spawning, 0) as spawning,
       coalesce(c.live, 0) as live, coalesce(w.demand, 0) as demand
from profiles p left join counted c on c.profile = p.name left join wanted w on w.profile = p.name
where p.is_current or c.live > 0
"""
# The first slots are for the tickets that wait longest and have none on its way yet: so a claim's story has its spawn.
_CREATE = """
insert into workers (profile, launch_until, correlation_id)
select %(profile)s, clock_timestamp() + %(lease)s, waiting.correlation_id from generate_series(1, %(count)s) n left join (
    select k.correlation_id, row_number() over (order by k.asked_at, k.id) as n from tickets k
    where k.profile = %(profile)s and k.worker_id is null and k.expires_at > now() and k.correlation_id is not null
      and not exists (select from workers w where w.profile = k.profile and w.state = 'spawning'
                      and w.ended_at is null and w.correlation_id = k.correlation_id)) waiting using (n)
returning id, correlation_id
"""


def look(db: Database) -> Seen | None:
    """Every profile's counts and demand, in one statement; None when there is no profile at all."""
    return _seen(db.rows(_SNAPSHOT))


def create(
    db: Database, profile: str, plan: Callable[[CapacitySnapshot, Seen], CapacityPlan], launch_lease: timedelta
) -> tuple[CapacityPlan, list[Slot]]:
    """Create the slots of a plan made again under the profile's lock, all in one transaction.

    What is already on its way is counted in the same transaction that adds to it, so two reconciles at once, on one
    control plane or on two, create the deficit once.
    """

    def work(connection: Connection) -> tuple[CapacityPlan, list[Slot]]:
        connection.execute("select from profiles where name = %(profile)s for update", {"profile": profile})
        seen = _seen(connection.execute(_SNAPSHOT).fetchall())
        now_known = seen.profiles.get(profile) if seen else None
        if seen is None or now_known is None:
            return CapacityPlan(profile, 0, 0, "not_current"), []
        decided = plan(now_known, seen)
        if decided.create == 0:
            return decided, []
        made = connection.execute(
            _CREATE, {"profile": profile, "lease": launch_lease, "count": decided.create}
        ).fetchall()
        connection.execute(
            "insert into events (kind, profile, detail) values ('reconcile', %(profile)s, jsonb_build_object("
            "'created', %(created)s::int, 'deficit', %(deficit)s::int, 'clipped_by', %(clipped)s::text,"
            "'idle', %(idle)s::int, 'spawning', %(spawning)s::int, 'demand', %(demand)s::int))",
            {
                "profile": profile,
                "created": decided.create,
                "deficit": decided.deficit,
                "clipped": decided.clipped_by,
                "idle": now_known.idle,
                "spawning": now_known.spawning,
                "demand": now_known.demand,
            },
        )
        return decided, [Slot(row["id"], 0, row["correlation_id"]) for row in made]

    return db.transaction(work)


def unlaunched(db: Database, launch_lease: timedelta, at_most: int) -> list[Slot]:
    """Slots whose launch was never heard of: their message was lost, or who took it died. To be published again."""
    rows = db.rows(
        "update workers set launch_until = clock_timestamp() + %(lease)s where id = any(array("
        # An array is read once; of `in (select ... limit)` a plan may ask again for each row, and pass the limit.
        " select id from workers where state = 'spawning' and ended_at is null and handle is null and launch_until < now()"
        " order by id limit %(most)s for update skip locked)) returning id, launch_attempts, correlation_id",
        lease=launch_lease,
        most=at_most,
    )
    return [Slot(row["id"], row["launch_attempts"], row["correlation_id"]) for row in rows]


def _seen(rows: Collection[Row]) -> Seen | None:
    if not rows:
        return None
    profiles = {
        row["name"]: CapacitySnapshot(
            profile=row["name"],
            idle=row["idle"],
            spawning=row["spawning"],
            live=row["live"],
            demand=row["demand"],
            max_workers=row["max_workers"],
            backoff_until=row["backoff_until"],
            draining=row["draining"],
        )
        for row in rows
        if row["is_current"]
    }
    return Seen(next(iter(rows))["now"], profiles, {row["name"]: row["live"] for row in rows})
