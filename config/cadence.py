"""When something is due: every so often, or by the five fields of a crontab in a time zone.

Across a change of the clock it keeps to what Debian's cron does. A crontab that names its hours and minutes fires once a
day that it names: at the first moment after a gap that swallowed it, and the first of the two times that the clock shows
it. One whose hours or minutes begin with `*` fires whenever the clock shows a time that fits, so that every 15 minutes
stays every 15 minutes.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Final, TypeAlias
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from config.quantity import DURATION_UNITS_S, duration_s

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Each fire is a transaction and a message. Ten a second is more than any of our tasks has a use for, and a slip of the
# unit (5ms for 5s) is refused instead of filling a queue.
LEAST_INTERVAL_S: Final = 0.1
# Longer than this is a date, which a crontab says better: an interval counts on from whenever it was set.
MOST_INTERVAL_S: Final = 31 * 86_400.0
MOST_EXPRESSION: Final = 200  # characters of a crontab

_FIELDS: Final[Mapping[str, str]] = {
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, and one that the month has",
    "month": "1-12 or jan-dec",
    "day-of-week": "0-7 (both ends are Sunday) or sun-sat",
}
_REMEDY: Final = "write an interval like 500ms, 30s, 5min or 2h, or a crontab like '30 2 * * mon-fri'"
_MOMENT: Final = timedelta(microseconds=1)
_DAY: Final = timedelta(days=1)
# A leap day that is a given weekday comes within 40 years of any day, so that what does not fire in 50 never does.
_EPOCH: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - a time on the clock of any zone


@dataclass(frozen=True, slots=True)
class Every:
    """Due each so many seconds, counted from an anchor. Kept to the millisecond."""

    seconds: float

    def __post_init__(self) -> None:
        """Refuse what is out of bounds."""
        if not (math.isfinite(self.seconds) and LEAST_INTERVAL_S <= self.seconds <= MOST_INTERVAL_S):
            msg = (
                f"interval out of range; expected {LEAST_INTERVAL_S:g} s to {MOST_INTERVAL_S / 86_400:g} days;"
                f" got {self.seconds:g} s; choose one in this range, or a crontab for what is rarer"
            )
            raise ValueError(msg)
        object.__setattr__(self, "seconds", round(self.seconds, 3))


@dataclass(frozen=True, slots=True)
class Cron:
    """Due at the times that a crontab names on the clock of a zone.

    The five fields are those of Unix: minute, hour, day of the month, month, day of the week; where both days are
    restricted either suffices. Beyond them cronsim knows `L`, the last day of a month, and `mon#1`, its first Monday.
    """

    expression: str
    zone: str

    def __post_init__(self) -> None:
        """Refuse what is no crontab, no zone, or never due."""
        object.__setattr__(self, "expression", " ".join(self.expression.upper().split()))
        _check_zone(self.zone)
        _check_expression(self.expression)

    @property
    def is_elapsed(self) -> bool:
        """Whether it goes on by elapsed time when the clock changes: its minutes or hours begin with `*`."""
        minute, hour = self.expression.split()[:2]
        return minute.startswith("*") or hour.startswith("*")


Cadence: TypeAlias = Every | Cron


def parse(text: str, zone: str = "UTC") -> Cadence:
    """The cadence that `text` writes; the zone is only a crontab's.

    Raises:
        ValueError: it is neither an interval within bounds nor a crontab that is ever due, or there is no such zone.
    """
    seconds = duration_s(text)
    if seconds is not None:
        return Every(seconds)
    if len(text.split()) != len(_FIELDS):
        msg = f"cadence {_short(text)} is neither an interval nor a crontab of five fields; {_REMEDY}"
        raise ValueError(msg)
    return Cron(text, zone)


def text_of(cadence: Cadence) -> str:
    """What `parse` reads back, with the zone of a crontab: `90s`, `5min`, `30 2 * * MON-FRI`."""
    if isinstance(cadence, Cron):
        return cadence.expression
    number, unit = _in_units(cadence)
    return f"{number}{unit}"


def describe(cadence: Cadence) -> str:
    """The cadence as people say it: `every 5 min`, `At 02:30 every day (Europe/Berlin)`."""
    if isinstance(cadence, Cron):
        return f"{CronSim(cadence.expression, _EPOCH).explain()} ({cadence.zone})"
    number, unit = _in_units(cadence)
    return f"every {number} {unit}"


def fires_after(cadence: Cadence, after: datetime, anchor: datetime) -> datetime:
    """The first time strictly after `after` at which it is due, in UTC. An interval counts from `anchor`, either way."""
    assert after.tzinfo is not None, "a time without a zone is no moment"
    assert anchor.tzinfo is not None, "a time without a zone is no moment"
    after = after.astimezone(UTC)
    if isinstance(cadence, Every):
        step = timedelta(milliseconds=round(cadence.seconds * 1000))
        return anchor.astimezone(UTC) + ((after - anchor) // step + 1) * step
    due = _elapsed if cadence.is_elapsed else _at_fixed_times
    return due(cadence.expression, ZoneInfo(cadence.zone), after)


def fires(cadence: Cadence, after: datetime, anchor: datetime, count: int) -> list[datetime]:
    """The next so many times at which it is due, after `after`."""
    found: list[datetime] = []
    for _ in range(count):
        after = fires_after(cadence, after, anchor)
        found.append(after)
    return found


def _at_fixed_times(expression: str, zone: ZoneInfo, after: datetime) -> datetime:
    # Where the clock was put back, times of its first hour come again, which `after` has passed.
    return next(
        due for wall in _walls(expression, after + _offset(zone, after)) if (due := _moment(wall, zone)) > after
    )


def _elapsed(expression: str, zone: ZoneInfo, after: datetime) -> datetime:
    offset = _offset(zone, after)
    while True:
        due = next(_walls(expression, after + offset)) - offset
        change = _change(zone, offset, after, due)
        if change is None:
            return due
        # Here the clock jumps: look again from what it shows then, that moment itself included.
        after, offset = change - _MOMENT, _offset(zone, change)


def _walls(expression: str, after: datetime) -> Iterator[datetime]:
    """Times on a clock that is never changed (it is called UTC here, whatever it shows), after that one."""
    return CronSim(expression, after.replace(second=0, microsecond=0))


def _moment(wall: datetime, zone: ZoneInfo) -> datetime:
    """When the clock of the zone first shows that time; the end of the gap, when it never does."""
    local = wall.replace(tzinfo=zone)
    moment = local.astimezone(UTC)
    if moment + _offset(zone, moment) == wall:
        return moment
    # In a gap: by the offset that holds after it, that time is before it.
    before = local.replace(fold=1).astimezone(UTC)
    return _change(zone, _offset(zone, before), before, moment) or moment


def _change(zone: ZoneInfo, offset: timedelta, after: datetime, until: datetime) -> datetime | None:
    """The first moment after `after`, up to `until`, at which the zone has another offset than this one.

    Looked for day by day: no zone changes its clock twice in one.
    """
    while after < until:
        end = min(after + _DAY, until)
        if _offset(zone, end) != offset:
            while end - after > _MOMENT:
                middle = after + (end - after) // 2
                after, end = (middle, end) if _offset(zone, middle) == offset else (after, middle)
            return end
        after = end
    return None


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _in_units(cadence: Every) -> tuple[str, str]:
    """In the largest unit of which it is a whole number; with a fraction, in seconds."""
    ms = round(cadence.seconds * 1000)
    whole = (unit for unit in ("h", "min", "s") if ms % round(DURATION_UNITS_S[unit] * 1000) == 0)
    unit = next(whole, "s" if ms > 1000 else "ms")  # noqa: PLR2004 - a second
    return f"{ms / round(DURATION_UNITS_S[unit] * 1000):.3f}".rstrip("0").rstrip("."), unit


def _check_expression(expression: str) -> None:
    if len(expression) > MOST_EXPRESSION or len(expression.split()) != len(_FIELDS):
        msg = f"crontab {_short(expression)} is not five fields in at most {MOST_EXPRESSION} characters; {_REMEDY}"
        raise ValueError(msg)
    try:
        never = next(CronSim(expression, _EPOCH), None) is None
    except CronSimError as error:
        field = str(error).lower().removeprefix("bad ")
        msg = f"crontab {expression!r}: the {field} is wrong; expected {_FIELDS.get(field, 'what Unix has')}; {_REMEDY}"
        raise ValueError(msg) from error
    if never:
        msg = f"crontab {expression!r} is due on no day of the next 50 years; choose days that its months have"
        raise ValueError(msg)


def _check_zone(zone: str) -> None:
    if zone in _zones():
        return
    # Cities are looked for without their continent as well.
    names = {short.casefold(): one for one in sorted(_zones()) for short in (one.rpartition("/")[2], one)}
    near = difflib.get_close_matches(zone.casefold(), names, n=1)
    remedy = f"did you mean {names[near[0]]!r}?" if near else "write it like Europe/Berlin or UTC"
    msg = f"time zone {_short(zone)} is unknown; expected a name of the IANA time zone database; {remedy}"
    raise ValueError(msg)


@cache
def _zones() -> frozenset[str]:
    # `localtime` is a file that each machine has its own of.
    return frozenset(available_timezones() - {"localtime"})


def _short(text: str) -> str:
    return repr(text if len(text) <= MOST_EXPRESSION else f"{text[:MOST_EXPRESSION]}...")
