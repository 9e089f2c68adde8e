"""Who sends what is due: one lease, and each tick claimed once under it.

The claim is a compare-and-set on the entry's due time, under the lease's epoch, and writes the tick with all that it takes to
send it. Who takes over sends what the one before had claimed and not marked as sent; Redis says whether it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, LiteralString
from uuid import UUID, uuid5

from scheduler.store.schedule import now_by, seen_by

if TYPE_CHECKING:
    from datetime import timedelta

    from scheduler.core.schedule import Tick
    from scheduler.store.database import Connection, Database, Row
    from scheduler.store.entries import Entry

# A beat that is not heard of for so long has lost its place. One whose session has ended has lost it at once.
LEASE_S: Final = 5.0
RENEW_S: Final = 1.0
TICKS_KEPT: Final = 500  # of each entry, and at most for as long as other history

_NAMESPACE: Final = UUID("6f0f4a1e-5c0e-5d0b-9c56-2f0b7e3d9a51")
_LIVES: LiteralString = (
    "l.until > clock_timestamp() and exists (select from pg_stat_activity a where a.pid = l.backend_pid"
    # Who may not see when another role's session began is told null.
    " and (a.backend_start = l.backend_start or a.backend_start is null))"
)
_HOLDER: LiteralString = f"""
select host, pid, epoch, since, extract(epoch from clock_timestamp() - renewed_at)::float as age_s
from beat_lease l where {_LIVES}
"""  # noqa: S608 - texts of this file
_ACQUIRE: LiteralString = f"""
insert into beat_lease as l (epoch, host, pid, backend_pid, backend_start, since, renewed_at, until)
select 1, %(host)s, %(pid)s, a.pid, a.backend_start, t.at, t.at, t.at + make_interval(secs => %(lease_s)s)
from (select clock_timestamp() as at) t, pg_stat_activity a where a.pid = pg_backend_pid()
on conflict (singleton) do update set epoch = l.epoch + 1, host = excluded.host, pid = excluded.pid,
    backend_pid = excluded.backend_pid, backend_start = excluded.backend_start, since = excluded.since,
    renewed_at = excluded.renewed_at, until = excluded.until
where not ({_LIVES})
returning epoch
"""  # noqa: S608 - as above
_RENEW: LiteralString = """
update beat_lease l set renewed_at = t.at, until = t.at + make_interval(secs => %(lease_s)s)
from (select clock_timestamp() as at) t where l.epoch = %(epoch)s and l.backend_pid = pg_backend_pid() returning l.epoch
"""
_LIFT: LiteralString = """
update beat_lease set epoch = %(above)s + 1 where epoch = %(epoch)s and backend_pid = pg_backend_pid() returning epoch
"""
# Who takes over waits for this row, and so for the claim; a claim that comes after it finds another epoch.
FENCE: LiteralString = "select from beat_lease where epoch = %(epoch)s and until > clock_timestamp() for share"
_DUE: LiteralString = "anchor_at = due_at, due_at = %(next_at)s, missed = missed + %(missed)s where due_at = %(due_at)s"
_ASKED: LiteralString = "asked_at = null, asked_by = null where asked_at = %(due_at)s"
_CLAIM: LiteralString = """
with holder as ({fence}), taken as (
    update schedule set sent = sent + 1, {change} and name = %(name)s and revision = %(revision)s and exists (select from holder)
    returning settings || overrides as entry
), old as (
    delete from ticks where id in (select id from ticks where entry = %(name)s and done_at is not null
        order by due_at desc offset %(kept)s limit 2)
)
insert into ticks (entry, due_at, task_id, task, args, kwargs, queue, expires_s, missed, asked_by, epoch)
select %(name)s, %(due_at)s, %(task_id)s, entry ->> 'task', entry -> 'args', entry -> 'kwargs', entry ->> 'queue',
       (entry ->> 'expires_s')::float, %(missed)s, %(asked_by)s, %(epoch)s from taken
on conflict (entry, due_at) do nothing
returning *
"""
_UNDONE: LiteralString = "select * from ticks where done_at is null order by id limit %(most)s"
_DONE: LiteralString = (
    "update ticks set done_at = clock_timestamp(), error = %(error)s where id = %(id)s and done_at is null"
)
_PRUNE: LiteralString = (
    "delete from ticks where id = any(array(select id from ticks where claimed_at < now() - %(keep)s limit %(most)s))"
    " returning id"
)


@dataclass(frozen=True, slots=True)
class Holder:
    """The beat that sends."""

    host: str
    pid: int
    epoch: int
    since: datetime
    age_s: float  # since it was last heard of


@dataclass(frozen=True, slots=True)
class Claimed:
    """One message to send: what the entry said when it was claimed."""

    id: int
    entry: str
    due_at: datetime
    task_id: str
    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    queue: str | None  # None: where the routes send the task
    expires_s: float | None
    claimed_at: datetime
    asked_by: str | None = None  # None: its time had come


def active_beat(db: Database) -> Holder | None:
    """Who sends now; None: nobody, and somebody is about to, if a beat runs at all."""
    row = db.row(_HOLDER)
    return Holder(**row) if row else None


def is_held(connection: Connection) -> bool:
    """Whether some beat sends."""
    return connection.execute(_HOLDER).fetchone() is not None


def acquire(connection: Connection, host: str, pid: int, *, lease_s: float = LEASE_S) -> int | None:
    """Take the lease if it is free; its new epoch."""
    return _epoch(connection.execute(_ACQUIRE, {"host": host, "pid": pid, "lease_s": lease_s}).fetchone())


def renew(connection: Connection, epoch: int, *, lease_s: float = LEASE_S) -> bool:
    """Hold it for another while; False: another holds it."""
    return connection.execute(_RENEW, {"epoch": epoch, "lease_s": lease_s}).fetchone() is not None


def lift(connection: Connection, epoch: int, above: int) -> int | None:
    """Give this holder an epoch above that one, which Redis has from a database that this one is not; None: it holds nothing."""
    return _epoch(connection.execute(_LIFT, {"epoch": epoch, "above": above}).fetchone())


def look(connection: Connection) -> tuple[list[Entry], datetime]:
    """The entries, and the time by the database's clock."""
    return seen_by(connection), now_by(connection)


def claim(connection: Connection, entry: Entry, tick: Tick, epoch: int) -> Claimed | None:
    """Claim a tick; None: the lease is another's, or the entry is no longer as it was seen."""
    values = {
        "epoch": epoch,
        "name": entry.name,
        "revision": entry.revision,
        "due_at": tick.due_at,
        "next_at": tick.next_at,
        "missed": tick.missed,
        "asked_by": entry.asked_by if tick.asked else None,
        "task_id": task_id(entry.name, tick.due_at),
        "kept": TICKS_KEPT,
    }
    sql = _CLAIM.format(fence=FENCE, change=_ASKED if tick.asked else _DUE)
    row = connection.execute(sql, values).fetchone()
    return _claimed(row) if row else None


def undone(connection: Connection, at_most: int) -> list[Claimed]:
    """Ticks that were claimed, and of which nobody knows that they were sent; the oldest first."""
    return [_claimed(row) for row in connection.execute(_UNDONE, {"most": at_most}).fetchall()]


def done(connection: Connection, tick: Claimed, error: str | None = None) -> None:
    """It was sent; or it never can be, and why."""
    connection.execute(_DONE, {"id": tick.id, "error": error})


def prune(db: Database, keep: timedelta, at_most: int) -> int:
    """Forget ticks past their keep; how many."""
    return len(db.rows(_PRUNE, keep=keep, most=at_most))


def task_id(name: str, due_at: datetime) -> str:
    """The id of the task that is sent for this time: the same, whoever sends it."""
    return str(uuid5(_NAMESPACE, f"{name}\n{due_at.astimezone(UTC).isoformat()}"))


def _claimed(row: Row) -> Claimed:
    return Claimed(**{name: row[name] for name in Claimed.__slots__} | {"task_id": str(row["task_id"])})


def _epoch(row: Row | None) -> int | None:
    return None if row is None else int(row["epoch"])
