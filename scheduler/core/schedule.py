"""What of the schedule is due, and when to look again: entries and `now` in, ticks out.

What was missed while no beat ran is made up for once, not once for each time (an entry of every second, after an hour, would
else send 3,600 messages): the tick that is overdue is the one, and the rest are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from config.cadence import Cadence, Every, fires_after

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

# A crontab's times are walked one by one, an interval's divided. More than so many are said to be so many.
MISSED_MOST: Final = 1_000


@dataclass(frozen=True, slots=True)
class Scheduled:
    """As much of an entry as decides when it is due."""

    name: str
    cadence: Cadence
    enabled: bool
    due_at: datetime  # its next time; passed, if nobody has sent it
    asked_at: datetime | None = None  # when somebody asked for one right now


@dataclass(frozen=True, slots=True)
class Tick:
    """One message to send."""

    name: str
    due_at: datetime  # the time that it is sent for; for one that was asked for, when it was
    next_at: datetime  # when the entry is due after it
    missed: int = 0  # times since `due_at` that it makes up for
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send now, the longest overdue first, and the time of the next; None when nothing will be due."""

    ticks: tuple[Tick, ...]
    wake_at: datetime | None


def plan(entries: Iterable[Scheduled], now: datetime) -> Plan:
    """Each enabled entry whose time has come, once; and each that was asked for, enabled or not."""
    ticks: list[Tick] = []
    times: list[datetime] = []
    for entry in entries:
        if entry.asked_at is not None:
            ticks.append(Tick(entry.name, entry.asked_at, entry.due_at, asked=True))
        if not entry.enabled:
            continue
        if entry.due_at > now:
            times.append(entry.due_at)
            continue
        next_at = fires_after(entry.cadence, now, entry.due_at)
        ticks.append(Tick(entry.name, entry.due_at, next_at, missed(entry.cadence, entry.due_at, now)))
        times.append(next_at)
    return Plan(tuple(sorted(ticks, key=lambda tick: tick.due_at)), min(times, default=None))


def missed(cadence: Cadence, due_at: datetime, now: datetime) -> int:
    """Times after `due_at` that have passed as well, at most MISSED_MOST."""
    if isinstance(cadence, Every):
        return min(MISSED_MOST, int((now - due_at).total_seconds() / cadence.seconds + 1e-9))
    count, at = 0, due_at
    while count < MISSED_MOST and (at := fires_after(cadence, at, due_at)) <= now:
        count += 1
    return count


def due_after_edit(
    cadence: Cadence, now: datetime, anchor: datetime, *, old_due_at: datetime, was_enabled: bool
) -> datetime:
    """When an entry is due whose cadence was edited, or that was enabled.

    Never at a time that has passed: an interval that is made shorter fires once for its next time, not for all those that it
    would have had (django-celery-beat #109). But what was overdue before the edit stays so.
    """
    return old_due_at if was_enabled and old_due_at <= now else fires_after(cadence, now, anchor)
