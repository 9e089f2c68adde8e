"""What `stoker schedule` shows: entries, when they are due, what of them operators have changed, and what was sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from config.cadence import Cron, describe, fires
from config.names import OTHER_TASKS
from tasks.cli.output import duration, plain_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from config.settings import Settings
    from scheduler.store.beat import Holder
    from scheduler.store.database import Row
    from scheduler.store.entries import Entry

PREVIEWED: Final = 5
NO_BEAT: Final = "no beat is active: nothing is sent until one runs (`stoker up`, or `celery -A tasks beat`)"

_TIME: Final = "%Y-%m-%d %H:%M:%S"
_TIME_OF_YEAR: Final = "%m-%d %H:%M:%S"  # beside a whole task id, for 80 columns
_DAY_S: Final = 86_400
_LONG: Final = 120  # characters of a value before it is cut


def upcoming(entry: Entry, now: datetime, count: int = PREVIEWED) -> list[datetime]:
    """When it is due next, as beat will reckon; of a disabled one, if it were enabled now."""
    if entry.cadence is None:
        return []
    if not entry.definition.enabled:
        return fires(entry.cadence, now, entry.anchor_at, count)
    return [entry.due_at, *fires(entry.cadence, max(entry.due_at, now), entry.due_at, count - 1)]


def row(entry: Entry, settings: Settings, last: Row | None) -> dict[str, Any]:
    """All of an entry, for programs; `last` is the last tick of it."""
    task = entry.definition
    return {
        "entry": entry.name,
        "task": task.task,
        "args": list(task.args),
        "kwargs": task.kwargs,
        "cadence": task.cadence,
        "zone": zone_of(entry),
        "means": describe(entry.cadence) if entry.cadence else None,
        "queue": task.queue or settings.routes.get(task.task, settings.routes[OTHER_TASKS]),
        "is_routed": task.queue is None,
        "expires_s": task.expires_s,
        "enabled": task.enabled,
        "last_at": last["claimed_at"] if last else None,
        "next_at": entry.due_at if task.enabled and entry.cadence else None,
        "asked_at": entry.asked_at,
        "asked_by": entry.asked_by,
        "sent": entry.sent,
        "missed": entry.missed,
        "is_own": entry.is_own,
        "differs": {field: {"settings": old, "live": new} for field, (old, new) in entry.drift.items()},
        "changed_at": entry.changed_at,
        "changed_by": entry.changed_by,
        "revision": entry.revision,
        "fault": entry.fault or None,
    }


def zone_of(entry: Entry) -> str | None:
    """Whose clock its crontab reads; None of an interval."""
    return entry.definition.zone if isinstance(entry.cadence, Cron) else None


def beat_row(beat: Holder | None) -> dict[str, Any] | None:
    """The beat that sends, for programs."""
    if beat is None:
        return None
    return {"host": beat.host, "pid": beat.pid, "epoch": beat.epoch, "since": beat.since, "heard_of_s": beat.age_s}


def table(rows: Sequence[Mapping[str, Any]], now: datetime, beat: Mapping[str, Any] | None) -> RenderableType:
    """All entries for people, what differs from the settings below them, and who sends."""
    shown = plain_table("schedule")
    shown.add_column("entry", overflow="fold", min_width=15)
    for column in ("cadence", "zone", "queue"):
        shown.add_column(column, overflow="fold")
    for column in ("sent ago", "due in"):
        shown.add_column(column, justify="right", no_wrap=True)
    for one in rows:
        mark = "+" if one["is_own"] else "*" if one["differs"] else ""
        shown.add_row(
            Text(one["entry"] + mark),
            Text(one["cadence"]),
            Text(one["zone"] or "-", style="" if one["zone"] else "dim"),
            Text(one["queue"], style="dim" if one["is_routed"] else ""),
            Text(_since(one["last_at"], now)),
            _next(one, now),
        )
    return Group(shown, *(Text(line, style="yellow") for one in rows for line in _notes(one)), foot(beat, now))


def entry(one: Mapping[str, Any], due: Sequence[datetime], now: datetime) -> RenderableType:
    """One entry for people, with its next times."""
    lines = {
        "task": f"{one['task']}({_arguments(one)})",
        "due": one["means"] or one["cadence"],
        "queue": one["queue"] + (" (by the routes)" if one["is_routed"] else ""),
        "expires": "never" if one["expires_s"] is None else f"if not begun within {duration(one['expires_s'])}",
        "enabled": "yes" if one["enabled"] else "no: it is sent only when it is asked for",
        "sent": f"{one['sent']}, the last {_ago(one['last_at'], now)}; {one['missed']} missed while no beat ran",
        "revision": str(one["revision"]),
    }
    if one["asked_by"]:
        lines["asked for"] = f"{_ago(one['asked_at'], now)} by {one['asked_by']}"
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, text in lines.items():
        facts.add_row(name, Text(text))
    notes = [Text(line, style="yellow") for line in _notes(one)]
    shown = preview(due, one["zone"], now, enabled=one["enabled"])
    return Group(Text(one["entry"], style="bold"), facts, *notes, shown)


def preview(due: Sequence[datetime], zone: str | None, now: datetime, *, enabled: bool) -> RenderableType:
    """When it will be sent: on the clock of its zone, and in UTC."""
    shown = plain_table("next times" if enabled else "next times, were it enabled")
    for column in (*((zone,) if zone and zone != "UTC" else ()), "UTC", "in"):
        shown.add_column(column, justify="right" if column == "in" else "left")
    for at in due:
        local = (at.astimezone(ZoneInfo(zone)).strftime(f"{_TIME} %z"),) if zone and zone != "UTC" else ()
        shown.add_row(*local, at.strftime(_TIME) + f".{at.microsecond // 1000:03}", _in(at, now))
    return shown


def ticks(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """What was sent, newest first."""
    shown = plain_table("sent, the newest first")
    for column in ("due (UTC)", "after", "task id", "why"):
        shown.add_column(column, overflow="fold", no_wrap=column != "why")
    for one in rows:
        late_s = max(0.0, (one["claimed_at"] - one["due_at"]).total_seconds())
        why = f"asked for by {one['asked_by']}" if one["asked_by"] else "due"
        why += f", and for {one['missed']} missed" if one["missed"] else ""
        state = "" if one["done_at"] else ", not yet sent"
        fault = f", never sent: {one['error']}" if one["error"] else ""
        shown.add_row(
            one["due_at"].strftime(_TIME_OF_YEAR), _long(late_s), str(one["task_id"]), Text(why + state + fault)
        )
    return shown if rows else Text("sent: nothing yet", style="dim")


def history(rows: Iterable[Mapping[str, Any]]) -> RenderableType:
    """Who changed what, in the order given."""
    shown = plain_table("changes of the schedule")
    for column in ("at", "entry", "change", "by"):
        shown.add_column(column, overflow="fold", no_wrap=column == "at")
    for one in rows:
        change = "; ".join(changes(one["before"], one["after"]))
        shown.add_row(one["at"].astimezone().strftime(_TIME), one["entry"], Text(change), Text(one["by"] or "-"))
    return shown if shown.row_count else Text("changes of the schedule: none", style="dim")


def changes(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[str]:
    """Each field that is not as it was; of an entry that came or went, what it says."""
    if before is None or after is None:
        said = after or before or {}
        fields = ", ".join(f"{field} {_value(value)}" for field, value in said.items() if value not in (None, [], {}))
        return [f"{'removed' if after is None else 'added'}: {fields}"]
    return [
        f"{field} {_value(before.get(field))} -> {_value(after.get(field))}"
        for field in dict.fromkeys((*before, *after))
        if before.get(field) != after.get(field)
    ]


def summary(entries: Sequence[Entry]) -> dict[str, Any]:
    """How many there are, and which are not as the settings have them."""
    return {
        "entries": len(entries),
        "off": [one.name for one in entries if not one.definition.enabled],
        "changed": [one.name for one in entries if one.drift],
        "added": [one.name for one in entries if one.is_own],
    }


def words(found: Mapping[str, Any]) -> str:
    """The summary for people: `4 entries; off: nightly; changed: pool.sweep`."""
    parts = (f"{what}: {', '.join(found[what])}" for what in ("off", "changed", "added") if found[what])
    return "; ".join((f"{found['entries']} entries", *parts))


def foot(beat: Mapping[str, Any] | None, now: datetime) -> Text:
    """Who sends, or that nobody does."""
    if beat is None:
        return Text(NO_BEAT, style="bold red")
    return Text(f"beat {beat['pid']} on {beat['host']} sends, for {_since(beat['since'], now)}", style="dim")


def _notes(one: Mapping[str, Any]) -> list[str]:
    """What the marks stand for."""
    found = [
        f"* {one['entry']}: {field} is {_value(both['live'])}, and {_value(both['settings'])} in the settings"
        for field, both in one["differs"].items()
    ]
    who = f" by {one['changed_by']}" if one["changed_by"] else ""
    if found:
        found.append(f"  changed{who}; `stoker schedule reset {one['entry']}` returns to the settings")
    if one["is_own"]:
        found.append(f"+ {one['entry']} was added{who}: the settings have no such entry")
    if one["fault"]:
        found.append(f"! {one['entry']} is not sent: {one['fault']}")
    return found


def _next(one: Mapping[str, Any], now: datetime) -> Text:
    if one["fault"]:
        return Text("never", style="bold red")
    if one["next_at"] is None:
        return Text("off", style="yellow")
    return Text(_in(one["next_at"], now))


def _in(at: datetime, now: datetime) -> str:
    left_s = (at - now).total_seconds()
    return _long(left_s) if left_s > 0 else "now"


def _ago(at: datetime | None, now: datetime) -> str:
    return "never" if at is None else f"{_since(at, now)} ago"


def _since(at: datetime | None, now: datetime) -> str:
    return "-" if at is None else _long(max(0.0, (now - at).total_seconds()))


def _long(seconds: float) -> str:
    return duration(seconds) if seconds < _DAY_S else f"{seconds / _DAY_S:.1f} days"


def _arguments(one: Mapping[str, Any]) -> str:
    values = [*(("", value) for value in one["args"]), *((f"{key}=", value) for key, value in one["kwargs"].items())]
    return ", ".join(key + _cut(json.dumps(value, ensure_ascii=False)) for key, value in values)


def _value(value: Any) -> str:  # noqa: ANN401 - JSON
    if value is None:
        return "-"
    return _cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."
