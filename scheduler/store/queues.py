"""The classes of work in SQL: what the settings say of them, and what operators have said since (I30).

A change is compared with what its author saw, checked beside all others, and written with the event that tells of it. Redis
has a copy of what is not as in the settings, for the workers that read it at each fetch; SQL is the truth of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, LiteralString, TypeVar

from psycopg.types.json import Jsonb

from config.queues import LEAST_BOUND_S, MOST_BOUND_S, Queue, overfull
from scheduler.errors import Refused, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scheduler.store.database import Connection, Database, Row

T = TypeVar("T")

CHANGED: Final = "queue.changed"
REMOVED: Final = "queue.removed"
BY_SETTINGS: Final = "settings"

_LOCK: LiteralString = "select pg_advisory_xact_lock(hashtextextended('stoker:queues', 0))"
_POLICIES: LiteralString = (
    "select name, rank, bound_s, reserve, override_bound_s, override_reserve, changed_at, changed_by"
    " from queues order by rank"
)
_OVERRIDE: LiteralString = (
    "update queues set override_bound_s = %(bound_s)s, override_reserve = %(reserve)s, changed_at = clock_timestamp(),"
    " changed_by = %(by)s where name = %(name)s"
)
_EVENT: LiteralString = "insert into events (kind, detail) values (%(kind)s, %(detail)s)"
_HISTORY: LiteralString = (
    "select at, kind, detail ->> 'queue' as queue, detail ->> 'by' as by, detail -> 'before' as before,"
    " detail -> 'after' as after from events where starts_with(kind, 'queue.')"
    " and (%(name)s::text is null or detail ->> 'queue' = %(name)s) order by id desc limit %(limit)s"
)
_REMEDY: Final = "`stoker queues` shows those that there are"


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for one class of work: the overrides where there are any, else the settings."""

    name: str
    rank: int
    set_bound_s: float  # as the settings have it
    set_reserve: float
    override_bound_s: float | None = None
    override_reserve: float | None = None
    changed_at: Any = None
    changed_by: str | None = None

    @property
    def bound_s(self) -> float:
        """How long one may wait before its reserve is its due."""
        return self.set_bound_s if self.override_bound_s is None else self.override_bound_s

    @property
    def reserve(self) -> float:
        """The share of dequeues that it may then take from better classes."""
        return self.set_reserve if self.override_reserve is None else self.override_reserve

    @property
    def is_overridden(self) -> bool:
        """Whether an operator has said something else than the settings."""
        return self.overrides != (None, None)

    @property
    def overrides(self) -> tuple[float | None, float | None]:
        """What operators have said: bound and reserve."""
        return self.override_bound_s, self.override_reserve

    def in_force(self) -> dict[str, float]:
        """As the history tells it."""
        return {"bound_s": self.bound_s, "reserve": self.reserve}


@dataclass(frozen=True, slots=True)
class Change:
    """What a change found and what it left; equal when there was nothing to change."""

    before: Policy
    after: Policy


def policies(db: Database) -> list[Policy]:
    """What holds for each class, in their order."""
    return [_policy(row) for row in db.rows(_POLICIES)]


def policy(db: Database, name: str) -> Policy:
    """What holds for one class. Refused: there is none of that name."""
    return _named({known.name: known for known in policies(db)}, name)


def set_policy(
    db: Database,
    name: str,
    *,
    by: str,
    bound_s: float | None = None,
    reserve: float | None = None,
    expected: Policy | None = None,
) -> Change:
    """Say how long one of a class may wait and what share it then has; None leaves that as it is.

    `expected` is what the author of the change saw; None takes whatever there is.

    Raises:
        Refused: there is no such class, nothing to set, a value is out of bounds, the reserves would be 1 or more in all, or
            somebody else has changed the class meanwhile. Nothing is changed.
    """
    if bound_s is None and reserve is None:
        raise Refused("nothing to set", expected="a bound, a reserve or both", remedy="name what is to change")
    if bound_s is not None and not LEAST_BOUND_S <= bound_s <= MOST_BOUND_S:
        expect = f"{LEAST_BOUND_S:g} to {MOST_BOUND_S:g} s"
        raise Refused("bound out of range", expected=expect, got=f"{bound_s:g} s", remedy="choose one in this range")
    if reserve is not None and not 0 <= reserve < 1:
        expect = "a share from 0 up to, and not with, 1"
        raise Refused("reserve out of range", expected=expect, got=f"{reserve:g}", remedy="write 0.2 or 20%")

    def wanted(old: Policy) -> Policy:
        new_bound_s = old.override_bound_s if bound_s is None else bound_s
        return replace(
            old, override_bound_s=new_bound_s, override_reserve=old.override_reserve if reserve is None else reserve
        )

    return _change(db, name, wanted, by, expected)


def reset_policy(db: Database, name: str, *, by: str, expected: Policy | None = None) -> Change:
    """Let the settings say it again. Raises as `set_policy` does."""
    return _change(db, name, lambda old: replace(old, override_bound_s=None, override_reserve=None), by, expected)


def history(db: Database, name: str | None = None, limit: int = 100) -> list[Row]:
    """Who changed what, newest first; of one class, also of one that there is no more, or of all."""
    return db.rows(_HISTORY, name=name, limit=limit)


def held(db: Database, tell: Callable[[list[Policy]], T]) -> T:
    """Let `tell` hand the policies on, while nobody changes them: what is told last is what holds. It may be called again."""

    def work(connection: Connection) -> T:
        connection.execute(_LOCK)
        return tell(list(_all(connection).values()))

    return db.transaction(work)


def apply(db: Database, wanted: Mapping[str, Queue]) -> None:
    """Make the classes those of the settings; what operators have said of them stays.

    Raises:
        Refused: with the overrides in force, the reserves of the new settings are 1 or more in all.
    """

    def work(connection: Connection) -> None:
        connection.execute(_LOCK)
        old = _all(connection)
        new = {
            name: replace(
                old.get(name, Policy(name, queue.rank, queue.bound_s, queue.reserve)),
                rank=queue.rank,
                set_bound_s=queue.bound_s,
                set_reserve=queue.reserve,
            )
            for name, queue in wanted.items()
        }
        if new == old:
            return
        _check_reserves(new, "`stoker queues reset` what was changed by hand, or lower a reserve in the settings")
        connection.execute("delete from queues where name <> all(%(names)s)", {"names": list(new)})
        connection.execute(
            "insert into queues (name, rank, bound_s, reserve)"
            " select * from jsonb_to_recordset(%(rows)s) as q(name text, rank int, bound_s float, reserve float)"
            " on conflict (name) do update set rank = excluded.rank, bound_s = excluded.bound_s, reserve = excluded.reserve",
            {"rows": Jsonb([_row(one) for one in new.values()])},
        )
        for name, before in old.items():
            if name not in new:
                _tell(connection, REMOVED, before, None, BY_SETTINGS)
            elif new[name].in_force() != before.in_force():
                _tell(connection, CHANGED, before, new[name], BY_SETTINGS)

    db.transaction(work)


def _change(db: Database, name: str, wanted: Callable[[Policy], Policy], by: str, expected: Policy | None) -> Change:
    def work(connection: Connection) -> Change:
        connection.execute(_LOCK)
        all_ = _all(connection)
        before = _named(all_, name)
        if expected is not None and before.overrides != expected.overrides:
            raise Refused(
                f"queue {name} was changed meanwhile by {before.changed_by}",
                expected=_words(expected),
                got=_words(before),
                remedy="look at it again (`stoker queues`), then change it",
            )
        after = wanted(before)
        if after.overrides == before.overrides:
            return Change(before, before)
        _check_reserves(all_ | {name: after}, "lower this one, or another first")
        values = {"name": name, "by": by, "bound_s": after.override_bound_s, "reserve": after.override_reserve}
        connection.execute(_OVERRIDE, values)
        _tell(connection, CHANGED, before, after, by)
        return Change(before, _all(connection)[name])

    return db.transaction(work)


def _tell(connection: Connection, kind: str, before: Policy, after: Policy | None, by: str) -> None:
    detail = {"queue": before.name, "by": by, "before": before.in_force(), "after": after and after.in_force()}
    connection.execute(_EVENT, {"kind": kind, "detail": Jsonb(detail)})


def _check_reserves(all_: Mapping[str, Policy], remedy: str) -> None:
    total = overfull({name: one.reserve for name, one in all_.items()})
    if total is not None:
        what = "the reserves would leave nothing for better work"
        raise Refused(what, expected="less than 1 in all", got=total, remedy=remedy)


def _all(connection: Connection) -> dict[str, Policy]:
    """By name, in their order."""
    return {row["name"]: _policy(row) for row in connection.execute(_POLICIES).fetchall()}


def _named(all_: Mapping[str, Policy], name: str) -> Policy:
    if name not in all_:
        raise unknown("queue", name, list(all_), _REMEDY)
    return all_[name]


def _words(one: Policy) -> str:
    return f"bound {one.bound_s:g} s, reserve {one.reserve:g}"


def _policy(row: Row) -> Policy:
    values = {key: value for key, value in row.items() if key not in {"bound_s", "reserve"}}
    return Policy(set_bound_s=row["bound_s"], set_reserve=row["reserve"], **values)


def _row(one: Policy) -> dict[str, Any]:
    return {"name": one.name, "rank": one.rank, "bound_s": one.set_bound_s, "reserve": one.set_reserve}
