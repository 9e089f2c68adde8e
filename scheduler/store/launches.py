"""From slot to worker: who may launch it, where it came to be, that it is ready, that it is gone (I11)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from scheduler.core.backoff import Pace, SpawnRecord, after_failure
from scheduler.core.states import WorkerState
from scheduler.store import tallies
from scheduler.store.tallies import Tally
from scheduler.store.tickets import Grant

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from scheduler.store.database import Connection, Database

SPAWN_FAILURES: Final = "stoker_spawn_failures"
_RACES: Final = 5


@dataclass(frozen=True, slots=True)
class Launched:
    """A worker that the platform runs, as far as the database knows."""

    worker_id: int
    epoch: int
    profile: str
    state: WorkerState
    handle: dict[str, Any]
    endpoint: str | None  # some launchers learn it only when the worker is ready
    age_s: float  # since its launch
    correlation_id: str | None
    activation_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a worker ended, and the tenant that held it then, whose cap has room again."""

    state: WorkerState
    profile: str
    tenant: str | None
    ready_s: float | None  # how long ago it became ready; None: it never did
    correlation_id: str | None


@dataclass(frozen=True, slots=True)
class LaunchOrder:
    """The right to launch one slot, fenced by `attempt`."""

    worker_id: int
    attempt: int
    profile: str
    correlation_id: str | None
    activation_key: str = field(repr=False)


_LAUNCHED: Final = """
select id, epoch, profile, state, handle, endpoint, activation_key, correlation_id,
       extract(epoch from now() - coalesce(launched_at, created_at))::float as age_s
from workers where ended_at is null and handle is not null
"""


def take_order(db: Database, worker_id: int, attempt: int, launch_lease: timedelta) -> LaunchOrder | None:
    """Become the one who launches this slot. None: another did, or the slot is gone. A message delivered twice launches once."""
    row = db.row(
        "update workers set launch_attempts = launch_attempts + 1, launch_until = clock_timestamp() + %(lease)s"
        " where id = %(worker)s and state = 'spawning' and handle is null and launch_attempts = %(attempt)s"
        " returning launch_attempts, profile, correlation_id, activation_key",
        worker=worker_id,
        attempt=attempt,
        lease=launch_lease,
    )
    if row is None:
        return None
    return LaunchOrder(
        worker_id, row["launch_attempts"], row["profile"], row["correlation_id"], activation_key=row["activation_key"]
    )


def placed(db: Database, order: LaunchOrder, handle: Mapping[str, Any], endpoint: str | None, node: str | None) -> bool:
    """Record where the worker came to be; its node is first seen now if it is new. False: the order was overtaken."""

    def work(connection: Connection) -> bool:
        # The empty update locks a node that was there, so that it is not pruned between here and the row that uses it.
        connection.execute(
            "insert into nodes (name) select %(node)s from workers where %(node)s::text is not null and id = %(worker)s"
            " and state = 'spawning' and handle is null and launch_attempts = %(attempt)s"
            " on conflict (name) do update set name = excluded.name",
            {"node": node, "worker": order.worker_id, "attempt": order.attempt},
        )
        found = connection.execute(
            "update workers set handle = %(handle)s::jsonb, endpoint = %(endpoint)s, node = %(node)s,"
            " launched_at = clock_timestamp() where id = %(worker)s and state = 'spawning' and handle is null"
            " and launch_attempts = %(attempt)s returning profile",
            {
                "handle": json.dumps(dict(handle)),
                "endpoint": endpoint,
                "node": node,
                "worker": order.worker_id,
                "attempt": order.attempt,
            },
        ).fetchone()
        if found is None:
            return False
        connection.execute(
            "insert into events (kind, profile, worker_id, correlation_id, detail)"
            " values ('worker.launched', %(profile)s, %(worker)s, %(correlation)s,"
            " jsonb_build_object('node', %(node)s::text, 'endpoint', %(endpoint)s::text, 'attempt', %(attempt)s::int))",
            {
                "profile": order.profile,
                "worker": order.worker_id,
                "node": node,
                "endpoint": endpoint,
                "attempt": order.attempt,
                "correlation": order.correlation_id,
            },
        )
        return True

    return db.transaction(work)


def located(
    db: Database, worker_id: int, handle: Mapping[str, Any], endpoint: str, node: str, *, unschedulable: bool
) -> None:
    """Record where a worker is whose launch could not tell; a node that is new is first seen now, as the platform marks it."""

    def work(connection: Connection) -> None:
        found = {"worker": worker_id, "handle": json.dumps(dict(handle)), "endpoint": endpoint, "node": node}
        connection.execute(
            "insert into nodes (name, unschedulable) select %(node)s, %(mark)s from workers where id = %(worker)s"
            " and state = 'spawning' and handle = %(handle)s::jsonb"
            " on conflict (name) do update set name = excluded.name",
            {**found, "mark": unschedulable},
        )
        connection.execute(
            "update workers set endpoint = %(endpoint)s, node = %(node)s where id = %(worker)s and state = 'spawning'"
            " and handle = %(handle)s::jsonb",
            found,
        )

    db.transaction(work)


def ready(db: Database, worker_id: int, grant_lease: timedelta) -> tuple[WorkerState | None, Grant | None]:
    """The worker answers: it parks as idle or goes to whoever waits. Still SPAWNING: its node is closed, ask again.

    (None, None): it was not spawning any more.
    """
    row = db.row("select * from worker_ready(%(worker)s, %(lease)s)", worker=worker_id, lease=grant_lease)
    if row is None or row["became"] is None:
        return None, None
    grant = None if row["ticket_id"] is None else Grant(row["ticket_id"], row["wake_key"])
    return WorkerState(row["became"]), grant


def failed(
    db: Database,
    worker_id: int,
    reason: str,
    *,
    gone: bool,
    first: timedelta,
    longest: timedelta,
    outcome: str = "launch_failed",
    pace: Pace = Pace.GROWING,
) -> WorkerState | None:
    """A spawn came to nothing: its slot ends, and its profile alone backs off. None: it was not spawning any more."""

    def work(connection: Connection) -> WorkerState | None:
        after = WorkerState.LOST if gone else WorkerState.DRAINING
        record = connection.execute(
            "select p.name, p.family, p.failures, p.backoff_until, w.created_at, w.epoch, w.correlation_id, now() as now"
            " from workers w join profiles p on p.name = w.profile where w.id = %(worker)s for update of p",
            {"worker": worker_id},
        ).fetchone()
        if record is None:
            return None
        moved = connection.execute(
            "select move_worker(%(worker)s, %(epoch)s, array['spawning'], %(after)s, %(reason)s) as was",
            {"worker": worker_id, "epoch": record["epoch"], "after": after, "reason": reason},
        ).fetchone()
        if moved is None or moved["was"] is None:
            return None
        now: datetime = record["now"]
        then = after_failure(
            SpawnRecord(record["failures"], record["backoff_until"]),
            record["created_at"],
            now,
            first=first,
            longest=longest,
            pace=pace,
        )
        connection.execute(
            "update profiles set failures = %(failures)s, backoff_until = %(until)s where name = %(name)s",
            {"failures": then.failures, "until": then.until, "name": record["name"]},
        )
        connection.execute(
            "insert into events (kind, profile, worker_id, correlation_id, detail)"
            " values ('spawn.failed', %(profile)s, %(worker)s, %(correlation)s,"
            " jsonb_build_object('outcome', %(outcome)s::text, 'reason', %(reason)s::text,"
            " 'backoff_until', %(until)s::timestamptz))",
            {
                "profile": record["name"],
                "worker": worker_id,
                "correlation": record["correlation_id"],
                "outcome": outcome,
                "reason": reason,
                "until": then.until,
            },
        )
        labels = {"outcome": outcome, "profile": record["family"]}
        tallies.add_within(connection, [Tally(SPAWN_FAILURES, labels, None, 1)])
        return after

    return db.transaction(work)


def gone(db: Database, worker_id: int, handle: Mapping[str, Any], reason: str) -> Ended | None:
    """The worker's process has ended: retired if that was asked of it, lost if not. None: the row has moved on.

    Fenced by the handle: whatever the epoch, that process serves nobody any more.
    """
    for _ in range(_RACES):
        row = db.row(
            "select w.profile, w.tenant, w.correlation_id, w.lease_until is not null as claimed,"
            " extract(epoch from now() - w.ready_at)::float as ready_s, coalesce("
            " move_worker(w.id, w.epoch, array['draining'], 'retired', 'stopped'),"
            " move_worker(w.id, w.epoch, array['idle','activating','active','hot_idle'], 'lost', %(reason)s)) as was"
            " from workers w where w.id = %(worker)s and w.handle = %(handle)s::jsonb and w.ended_at is null"
            " and w.state <> 'spawning'",
            worker=worker_id,
            handle=json.dumps(dict(handle)),
            reason=reason,
        )
        if row is None:
            return None
        if row["was"] is not None:
            state = WorkerState.RETIRED if row["was"] == WorkerState.DRAINING else WorkerState.LOST
            tenant = row["tenant"] if row["claimed"] else None
            return Ended(state, row["profile"], tenant, row["ready_s"], row["correlation_id"])
        # A claim, a release or a reaper moved it between our look and our move: look again.
    return None


def look_up(db: Database, worker_id: int) -> Launched | None:
    """The live, launched worker of that number."""
    row = db.row(_LAUNCHED + " and id = %(worker)s", worker=worker_id)
    return None if row is None else _launched(row)


def all_launched(db: Database) -> list[Launched]:
    """Every live worker that was launched."""
    return [_launched(row) for row in db.rows(_LAUNCHED + " order by id")]


def pool_id(db: Database) -> str:
    """The mark that this installation's workers carry."""
    row = db.row("select pool_id::text as pool_id from installation")
    assert row is not None, "the migration writes the one row"
    return str(row["pool_id"])


def _launched(row: dict[str, Any]) -> Launched:
    return Launched(
        worker_id=row["id"],
        epoch=row["epoch"],
        profile=row["profile"],
        state=WorkerState(row["state"]),
        handle=row["handle"],
        endpoint=row["endpoint"],
        age_s=row["age_s"],
        correlation_id=row["correlation_id"],
        activation_key=row["activation_key"],
    )
