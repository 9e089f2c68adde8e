"""The schedule in SQL: what the settings say of each entry, what operators have said over it, and who changed what.

A change is compared with the revision that its author saw, and written with the event that tells of it. Whoever sends looks
here at least once a second, and is called by each commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, LiteralString

from psycopg import Rollback
from psycopg.types.json import Jsonb

from scheduler.core.schedule import due_after_edit
from scheduler.errors import Refused, unknown
from scheduler.store.entries import Entry, check_tick, checked, entry_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from config.schedule import ScheduledTask
    from scheduler.store.database import Connection, Database, Row

CHANGED: Final = "schedule.changed"
REMOVED: Final = "schedule.removed"
BY_SETTINGS: Final = "settings"
CHANNEL: Final = "stoker_schedule"
NONE_YET: Final = 0  # the revision of an entry that there is not
ENTRIES_MOST: Final = 1_000

# An edit reads an entry and writes it anew: nobody claims a tick of it, or edits another, in between.
_LOCK: LiteralString = "lock table schedule in share row exclusive mode"
_ENTRIES: LiteralString = "select *, (settings || overrides)::text as in_force from schedule order by name"
_WRITE: LiteralString = """
insert into schedule (name, settings, overrides, anchor_at, due_at, changed_at, changed_by)
values (%(name)s, %(settings)s, %(overrides)s, %(anchor_at)s, %(due_at)s, %(changed_at)s, %(by)s)
on conflict (name) do update set settings = excluded.settings, overrides = excluded.overrides, due_at = excluded.due_at,
    revision = schedule.revision + 1, changed_at = coalesce(excluded.changed_at, schedule.changed_at),
    changed_by = coalesce(excluded.changed_by, schedule.changed_by)
returning *, (settings || overrides)::text as in_force
"""
_ASK: LiteralString = "update schedule set asked_at = %(at)s, asked_by = %(by)s where name = %(name)s"
_EVENT: LiteralString = "insert into events (kind, detail) values (%(kind)s, %(detail)s)"
_HISTORY: LiteralString = (
    "select at, kind, detail ->> 'entry' as entry, detail ->> 'by' as by, detail -> 'before' as before,"
    " detail -> 'after' as after from events where starts_with(kind, 'schedule.')"
    " and (%(name)s::text is null or detail ->> 'entry' = %(name)s) order by id desc limit %(limit)s"
)
_TICKS: LiteralString = (
    "select entry, due_at, task_id::text, task, missed, asked_by, epoch, claimed_at, done_at, error from ticks"
    " where %(name)s::text is null or entry = %(name)s order by id desc limit %(limit)s"
)
_LAST_TICKS: LiteralString = (
    "select t.* from schedule s cross join lateral"
    " (select entry, claimed_at from ticks where entry = s.name order by due_at desc limit 1) t"
)
_REMEDY: Final = "`stoker schedule` shows those that there are; a new one needs a task and a cadence"


@dataclass(frozen=True, slots=True)
class Change:
    """What a change found and what it left; None of an entry that there is not. Equal when there was nothing to change."""

    before: Entry | None
    after: Entry | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A message that was asked for: when, which is what its task id is made of, and by whom."""

    at: datetime
    by: str
    is_new: bool


def entries(db: Database) -> list[Entry]:
    """All entries, by name."""
    return [entry_of(row) for row in db.rows(_ENTRIES)]


def entry(db: Database, name: str) -> Entry:
    """One entry. Refused: there is none of that name."""
    return _named({known.name: known for known in entries(db)}, name)


def seen_by(connection: Connection) -> list[Entry]:
    """The same as `entries`, by a connection that is held."""
    return [entry_of(row) for row in connection.execute(_ENTRIES).fetchall()]


def set_entry(
    db: Database,
    name: str,
    change: Mapping[str, Any],
    *,
    by: str,
    expected: int | None = None,
    dry_run: bool = False,
) -> Change:
    """Change some fields of an entry (those of `ScheduledTask`), or add one; in a dry run, say what that would come to.

    `expected` is the revision that the author of the change saw, NONE_YET where there was none; None takes whatever there is.

    Raises:
        Refused: the result is no entry, a tick of the pool would no longer be what the settings are checked with, somebody
            else has changed it meanwhile, or there are too many. Nothing is changed.
    """

    def work(connection: Connection) -> Change:
        all_ = _locked(connection)
        if name not in all_ and not {"task", "cadence"} <= change.keys():
            raise unknown("entry", name, list(all_), _REMEDY)
        old = all_.get(name)
        settings, said = (old.settings, old.overrides) if old else ({}, {})
        with connection.transaction():
            made = _change(connection, all_, name, settings, {**said, **change}, by=by, expected=expected)
            if dry_run:
                raise Rollback
        return made

    return db.transaction(work)


def set_enabled(db: Database, name: str, *, enabled: bool, by: str, expected: int | None = None) -> Change:
    """Let an entry be sent or not. What was due while it was disabled is not made up for. Raises as `set_entry` does."""
    return set_entry(db, name, {"enabled": enabled}, by=by, expected=expected)


def reset(db: Database, name: str, *, by: str, expected: int | None = None) -> Change:
    """Let the settings say it again: an entry that they do not have is removed. Raises as `set_entry` does."""

    def work(connection: Connection) -> Change:
        all_ = _locked(connection)
        old = _named(all_, name)
        if old.is_own:
            _check_expected(name, old, expected)
            _remove(connection, old, by)
            return Change(old, None)
        return _change(connection, all_, name, old.settings, {}, by=by, expected=expected)

    return db.transaction(work)


def request_run(db: Database, name: str, *, by: str) -> Asked:
    """Ask for the entry to be sent now, enabled or not; where somebody has asked already, one message serves both.

    Raises:
        Refused: there is no such entry.
    """

    def work(connection: Connection) -> Asked:
        old = _named(_locked(connection), name)
        if old.asked_at is not None:
            return Asked(old.asked_at, str(old.asked_by), is_new=False)
        at = now_by(connection)
        connection.execute(_ASK, {"name": name, "at": at, "by": by})
        _call(connection, name)
        return Asked(at, by, is_new=True)

    return db.transaction(work)


def history(db: Database, name: str | None = None, limit: int = 100) -> list[Row]:
    """Who changed what, newest first; of one entry, also of one that there is no more, or of all."""
    return db.rows(_HISTORY, name=name, limit=limit)


def ticks(db: Database, name: str | None = None, limit: int = 100) -> list[Row]:
    """What was sent, newest first; of one entry or of all. Without `done_at` it is being sent."""
    return db.rows(_TICKS, name=name, limit=limit)


def now(db: Database) -> datetime:
    """The time by the database's clock, on which all of it is due."""
    return db.transaction(now_by)


def last_ticks(db: Database) -> dict[str, Row]:
    """What was sent last of each entry that there is."""
    return {row["entry"]: row for row in db.rows(_LAST_TICKS)}


def apply(db: Database, wanted: Mapping[str, ScheduledTask]) -> None:
    """Make the settings' part of the schedule that of these; what operators have said over it, or added, stays.

    Raises:
        Refused: with an override in force, an entry of the new settings would not be one.
    """

    def work(connection: Connection) -> None:
        all_ = _locked(connection)
        for old in list(all_.values()):
            if not old.is_own and old.name not in wanted:
                _remove(connection, old, BY_SETTINGS)
                del all_[old.name]
        for name, task in wanted.items():
            settings = task.model_dump(mode="json")
            if name not in all_ or all_[name].settings != settings:
                said = all_[name].overrides if name in all_ else {}
                _change(connection, all_, name, settings, said, by=BY_SETTINGS)

    db.transaction(work)


def _change(
    connection: Connection,
    all_: Mapping[str, Entry],
    name: str,
    settings: dict[str, Any],
    said: Mapping[str, Any],
    *,
    by: str,
    expected: int | None = None,
) -> Change:
    """Make the entry what the settings and, over them, operators say."""
    old = all_.get(name)
    _check_expected(name, old, expected)
    definition = checked(name, {**settings, **said})
    in_force = definition.model_dump(mode="json")
    # What the settings say as well is no word of an operator's: it goes with them when they change.
    overrides = {key: in_force[key] for key in said if settings.get(key) != in_force[key]} if settings else in_force
    if by != BY_SETTINGS:
        check_tick(name, settings, in_force)
    if old is not None and (old.settings, old.overrides) == (settings, overrides):
        return Change(old, old)
    if old is None and len(all_) >= ENTRIES_MOST:
        raise Refused(
            "too many entries", expected=f"at most {ENTRIES_MOST}", remedy="remove one (`stoker schedule reset`)"
        )
    now = now_by(connection)
    anchor = now if old is None else old.anchor_at
    values = {
        "name": name,
        "settings": Jsonb(settings),
        "overrides": Jsonb(overrides),
        "anchor_at": anchor,
        "due_at": _due(old, definition, now, anchor),
        "changed_at": None if by == BY_SETTINGS else now,
        "by": None if by == BY_SETTINGS else by,
    }
    row = connection.execute(_WRITE, values).fetchone()
    assert row is not None, "a write of one entry returns it"
    after = entry_of(row)
    # What is new in the settings stands there.
    is_told = by != BY_SETTINGS if old is None else old.in_force() != in_force
    if is_told:
        _tell(connection, CHANGED, name, by, old, after)
    _call(connection, name)
    return Change(old, after)


def _due(old: Entry | None, definition: ScheduledTask, now: datetime, anchor: datetime) -> datetime:
    if old is not None:
        before = old.definition
        if (before.cadence, before.zone) == (definition.cadence, definition.zone) and not (
            definition.enabled and not before.enabled
        ):
            return old.due_at
    was_enabled = old is not None and old.definition.enabled
    old_due_at = old.due_at if old is not None else now
    return due_after_edit(definition.when, now, anchor, old_due_at=old_due_at, was_enabled=was_enabled)


def _check_expected(name: str, old: Entry | None, expected: int | None) -> None:
    found = old.revision if old else NONE_YET
    if expected is not None and found != expected:
        who = f" by {old.changed_by}" if old and old.changed_by else ""
        raise Refused(
            f"entry {name} was changed meanwhile{who}",
            expected=f"revision {expected}",
            got=f"revision {found}" if old else "none of that name",
            remedy=f"look at it again (`stoker schedule show {name}`), then change it",
        )


def _remove(connection: Connection, old: Entry, by: str) -> None:
    connection.execute("delete from schedule where name = %(name)s", {"name": old.name})
    _tell(connection, REMOVED, old.name, by, old, None)
    _call(connection, old.name)


def _tell(connection: Connection, kind: str, name: str, by: str, before: Entry | None, after: Entry | None) -> None:
    detail = {
        "entry": name,
        "by": by,
        "before": before and before.in_force(),
        "after": after and after.in_force(),
    }
    connection.execute(_EVENT, {"kind": kind, "detail": Jsonb(detail)})


def _call(connection: Connection, name: str) -> None:
    """Whoever sends hears of it when this commits."""
    connection.execute("select pg_notify(%(channel)s, %(name)s)", {"channel": CHANNEL, "name": name})


def _locked(connection: Connection) -> dict[str, Entry]:
    """All entries, by name, while nobody else edits one."""
    connection.execute(_LOCK)
    return {one.name: one for one in seen_by(connection)}


def now_by(connection: Connection) -> datetime:
    """The time by the database's clock."""
    row = connection.execute("select clock_timestamp() as now").fetchone()
    assert row is not None, "a select without from returns one row"
    now: datetime = row["now"]
    return now


def _named(all_: Mapping[str, Entry], name: str) -> Entry:
    if name not in all_:
        raise unknown("entry", name, list(all_), _REMEDY)
    return all_[name]
