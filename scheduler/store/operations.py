"""Operations in SQL: submitted in one statement, begun and ended for all who share a run in one statement each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

from psycopg import errors
from psycopg.types.json import Jsonb

from scheduler.core.operations import OperationState, Place, RunState, Step
from scheduler.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from scheduler.core.operations import Plan
    from scheduler.store.database import Connection, Database, Row

_SUBMIT: LiteralString = (
    "select * from submit_operation(%(kind)s, %(target)s, %(queue)s, %(rank)s, %(plan)s, %(trail)s,"
    " %(needs)s::bigint[], %(after)s::bigint[], %(correlation)s)"
)
_RECENT: LiteralString = (
    "select "
    "id, kind, target, queue, state, steps, step, unmet, asked, error, submitted_at, queued_at, began_at, ended_at, took_s"
    " from every_operation where (%(state)s::text is null or state = %(state)s)"
    " and (%(target)s::text is null or target = %(target)s or starts_with(target, %(target)s || '/'))"
    " and (%(kind)s::text is null or kind = %(kind)s) order by id desc limit %(limit)s"
)
# A run names who led it alone. Who follows it, and is served by it now, is known by its key: it began when his turn was.
_RUNS: LiteralString = """
with o as (
    select id, coalesce((select max((e ->> 'ended_at')::timestamptz) from jsonb_array_elements(trail) e), queued_at) as since
    from operations where id = %(id)s
), found as (
    select r.* from o join runs r on r.operation_id = o.id
    union
    select r.* from o join runs r on r.state = 'running' and r.key = %(key)s and r.began_at >= o.since
) select id as run, operation_id as led_by, task_id, task, state, attempt, queue, served, lane_wait_s, wait_s,
    defers, folded, began_at, ended_at, error
from found where not exists (select 1 from operations p, jsonb_array_elements(p.trail) e
    where p.id = %(id)s and (e ->> 'run')::bigint = found.id) order by id
"""
_LIVE: LiteralString = (
    "select state, count(*)::int as count, max(extract(epoch from clock_timestamp() - submitted_at))::float as oldest_s"
    " from operations where ended_at is null group by state order by state"
)
_PRUNE: LiteralString = (
    "with a as (delete from operations where id = any(array(select id from operations where ended_at < now() - %(keep)s"
    " order by ended_at limit %(at_most)s for update skip locked)) returning 1), b as (delete from runs where id = any(array("
    "select id from runs where ended_at < now() - %(keep)s order by ended_at limit %(at_most)s for update skip locked))"
    " returning 1) select (select count(*) from a) + (select count(*) from b) as deleted"
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation as its submitter gets it."""

    id: int
    token: str
    state: OperationState
    is_new: bool  # False: an equal one was pending, and stands for this request too
    correlation_id: str | None  # its own: that of the request which made it

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "operation": self.id,
            "state": str(self.state),
            "is_new": self.is_new,
            "correlation_id": self.correlation_id,
        }


@dataclass(frozen=True, slots=True)
class Released:
    """An operation that nothing keeps from being published."""

    id: int
    token: str


@dataclass(frozen=True, slots=True)
class ToPublish:
    """What publishing an operation's next step takes."""

    place: Place
    queue: str
    steps: Sequence[Step]
    correlation_id: str | None


@dataclass(frozen=True, slots=True)
class BegunRun:
    """Whether a run may begin: `run`; `done` or `ended` when nobody's turn it is; `busy` while SQL knows another in its lane."""

    verdict: str
    run: int
    holder: str
    lease_left_s: float


def submit(  # noqa: PLR0913 - one row's columns
    connection: Connection,
    kind: str,
    target: str,
    *,
    queue: str,
    rank: int,
    plan: Plan,
    needs: Sequence[int] = (),
    after: Sequence[int] = (),
    correlation_id: str | None = None,
) -> Operation:
    """Write the operation, within the caller's transaction: there is no id before its row stands.

    Raises:
        Refused: an operation it needs or comes after is unknown, or it needs one that has failed.
    """
    trail = (
        [{"how": "folded", "where": "in_operation", "times": plan.folded, "tasks": Counter(plan.spared)}]
        if plan.folded
        else []
    )
    try:
        row = connection.execute(
            _SUBMIT,
            {
                "kind": kind,
                "target": target,
                "queue": queue,
                "rank": rank,
                "plan": Jsonb([step.to_json() for step in plan.steps]),
                "trail": Jsonb(trail),
                "needs": list(needs),
                "after": list(after),
                "correlation": correlation_id,
            },
        ).fetchone()
    except errors.NoDataFound as refusal:
        raise Refused(
            f"{kind} of {target} was not submitted",
            got=str(refusal.diag.message_primary),
            remedy="name operations that can still succeed (`stoker op list`)",
        ) from refusal
    assert row is not None
    return Operation(row["id"], row["token"], OperationState(row["state"]), row["is_new"], row["correlation_id"])


def begin_run(  # noqa: PLR0913 - one row's columns
    db: Database,
    places: Sequence[Place],
    *,
    task_id: str,
    task: str,
    key: str,
    lane: str,
    queue: str,
    attempt: int,
    lane_wait_s: float,
    lease: timedelta,
    wait_s: float | None = None,
    defers: int = 0,
    folded: int = 0,
) -> BegunRun:
    """Begin a run for these steps, the leader's first, if it is the turn of any and the lane is free in SQL.

    What its start waited for is kept with it: `wait_s` since its message was published, None if nobody knows.
    """
    row = db.row(
        "select * from begin_run(%(ids)s::bigint[], %(positions)s::int[], %(task_id)s, %(task)s, %(key)s, %(lane)s, %(queue)s,"
        " %(attempt)s::int, %(lane_wait_s)s::float, %(wait_s)s::float, %(defers)s::int, %(folded)s::int, %(lease)s)",
        ids=[place.operation for place in places],
        positions=[place.position for place in places],
        task_id=task_id,
        task=task,
        key=key,
        lane=lane,
        queue=queue,
        attempt=attempt,
        lane_wait_s=lane_wait_s,
        wait_s=wait_s,
        defers=defers,
        folded=folded,
        lease=lease,
    )
    assert row is not None
    return BegunRun(row["verdict"], row["run"] or 0, row["holder"] or "", row["lease_left_s"] or 0.0)


def end_run(
    db: Database,
    run: int,
    state: RunState,
    places: Sequence[Place],
    entries: Sequence[dict[str, Any]],
    error: str | None = None,
) -> list[Released] | None:
    """End the run for all it served; the operations to publish. None: it was given up for lost, and nothing changed."""
    rows = db.rows(
        "select * from end_run(%(run)s, %(state)s, %(error)s, %(ids)s::bigint[], %(positions)s::int[], %(entries)s)",
        run=run,
        state=str(state),
        error=error,
        ids=[place.operation for place in places],
        positions=[place.position for place in places],
        entries=Jsonb(list(entries)),
    )
    if rows[0]["verdict"] == "lost":
        return None
    return [Released(row["id"], row["token"]) for row in rows[1:]]


def renew_runs(db: Database, runs: Sequence[int], lease: timedelta) -> None:
    """Say that these runs live."""
    db.rows(
        "update runs set lease_until = clock_timestamp() + %(lease)s where id = any(%(runs)s) and state = 'running'",
        runs=list(runs),
        lease=lease,
    )


def is_running(db: Database, run: int) -> bool:
    """Whether this run has not ended."""
    return db.row("select 1 from runs where id = %(run)s and state = 'running'", run=run) is not None


def cancel(db: Database, operation: int) -> tuple[Place, list[Released]] | None:
    """End the operation; the step at which it stood, and who came after it. None: it had ended."""
    rows = db.rows("select * from cancel_operation(%(id)s)", id=operation)
    if not rows:
        return None
    first, *released = rows
    place = Place(operation, first["step"], first["token"])
    return place, [Released(row["id"], row["token"]) for row in released]


def steps(db: Database, operation: int) -> ToPublish | None:
    """Where a live operation stands, and all its steps; None when it has ended, waits, or is unknown."""
    row = db.row(
        "select step, token, queue, plan, correlation_id from operations where id = %(id)s and state in ('queued', 'running')",
        id=operation,
    )
    if row is None:
        return None
    place = Place(operation, row["step"], row["token"])
    return ToPublish(place, row["queue"], [Step(**step) for step in row["plan"]], row["correlation_id"])


def unseen(db: Database, longer_than: timedelta, at_most: int) -> list[Place]:
    """The steps of operations that have not moved for so long; each is looked at once in that time."""
    rows = db.rows(
        "update operations set seen_at = now() where id = any(array(select id from operations where ended_at is null"
        " and state <> 'waiting' and seen_at < now() - %(longer_than)s order by seen_at limit %(at_most)s"
        " for update skip locked)) returning id, step, token",
        longer_than=longer_than,
        at_most=at_most,
    )
    return [Place(row["id"], row["step"], row["token"]) for row in rows]


def lose_runs(db: Database, at_most: int) -> int:
    """Give up runs whose lease has ended; how many."""
    return len(
        db.rows(
            "update runs set state = 'lost', ended_at = clock_timestamp(), error = 'its lease ended' where id = any(array("
            "select id from runs where state = 'running' and lease_until < clock_timestamp() limit %(at_most)s"
            " for update skip locked)) and lease_until < clock_timestamp() returning id",
            at_most=at_most,
        )
    )


def await_end(db: Database, operation: int) -> bool | None:
    """Whether it has ended; if not, its end is told from here on to whoever listens. None when it is unknown."""
    row = db.row("select ended_at is not null as ended, awaited from operations where id = %(id)s", id=operation)
    if row is not None and not row["ended"] and not row["awaited"]:
        # Waits for whoever is ending it just now, and then knows. Those who come later only look.
        row = db.row(
            "update operations set awaited = ended_at is null where id = %(id)s returning ended_at is not null as ended",
            id=operation,
        )
    return None if row is None else bool(row["ended"])


def show(db: Database, operation: int) -> Row | None:
    """All that is known of one operation: its steps, who ran them, what it waits for and who waits for it."""
    return db.row(
        "select e.*, o.correlation_id from every_operation e join operations o using (id) where id = %(id)s",
        id=operation,
    )


def runs_beside(db: Database, operation: int, key: str | None) -> list[Row]:
    """Runs for an operation that its trail does not have: under way, lost, or ended after it was cancelled.

    `key` is that of its step, if one may be under way that another operation led.
    """
    return db.rows(_RUNS, id=operation, key=key)


def live(db: Database) -> list[Row]:
    """How many operations have not ended, by state, and for how long the oldest has not."""
    return db.rows(_LIVE)


def recent(
    db: Database, *, limit: int, state: str | None = None, target: str | None = None, kind: str | None = None
) -> list[Row]:
    """Operations, newest first. A target also stands for all that is under it."""
    return db.rows(
        _RECENT,
        limit=limit,
        state=state,
        target=target,
        kind=kind,
    )


def prune(db: Database, keep: timedelta, at_most: int) -> int:
    """Delete the history of what ended long ago, successes and failures alike; rows deleted."""
    row = db.row(_PRUNE, keep=keep, at_most=at_most)
    return int(row["deleted"]) if row else 0
