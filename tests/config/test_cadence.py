"""Intervals and crontabs: read and written, and due when a clock of our own says so, changes of daylight saving included."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.cadence import (
    LEAST_INTERVAL_S,
    MOST_INTERVAL_S,
    Cadence,
    Cron,
    Every,
    describe,
    fires,
    fires_after,
    parse,
    text_of,
)

ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
# The days before which the clock is put forward, then back: by an hour, and by half an hour.
CHANGES = {
    "Europe/Berlin": ("2026-03-29", "2026-10-25"),
    "America/New_York": ("2026-03-08", "2026-11-01"),
    "Australia/Lord_Howe": ("2026-10-04", "2026-04-05"),
}


def shown(zone: str, expression: str, day: str) -> list[str]:
    """What the zone's clock shows when it fires on that day, with its offset."""
    midnight = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    found, last = [], midnight - MINUTE
    while (last := fires_after(Cron(expression, zone), last, ANCHOR)) < (midnight + timedelta(days=1)).astimezone(UTC):
        found.append(f"{last.astimezone(ZoneInfo(zone)):%H:%M %z}")
    return found


@pytest.mark.parametrize(
    ("text", "cadence"),
    [
        ("500ms", Every(0.5)),
        ("30s", Every(30)),
        (" 5 min ", Every(300)),
        ("1.5h", Every(5400)),
        ("*/15 * * * *", Cron("*/15 * * * *", "Europe/Berlin")),
        ("  30  2 * *\tmon-Fri", Cron("30 2 * * MON-FRI", "Europe/Berlin")),
    ],
)
def test_what_operators_write(text: str, cadence: Cadence) -> None:
    assert parse(text, "Europe/Berlin") == cadence


@pytest.mark.parametrize(
    ("text", "zone", "said"),
    [
        ("", "UTC", "write an interval like 500ms"),
        ("30", "UTC", "neither an interval nor a crontab"),
        ("-5s", "UTC", "neither an interval nor a crontab"),
        ("soon", "UTC", "neither an interval nor a crontab"),
        ("@daily", "UTC", "or a crontab like"),
        ("99ms", "UTC", "expected 0.1 s to 31 days; got 0.099 s"),
        ("0s", "UTC", "interval out of range"),
        ("745h", "UTC", "interval out of range"),
        ("* * * *", "UTC", "five fields"),
        ("0 * * * * *", "UTC", "five fields"),
        ("60 * * * *", "UTC", "the minute is wrong; expected 0-59"),
        ("* 24 * * *", "UTC", "the hour is wrong; expected 0-23"),
        ("0 0 30 2 *", "UTC", "the day-of-month is wrong; expected 1-31, and one that the month has"),
        ("0 0 31 4,6,9,11 *", "UTC", "the day-of-month is wrong"),
        ("0 0 LW * */7", "UTC", "due on no day of the next 50 years"),  # the last working day, on Sundays
        ("0 0 * 13 *", "UTC", "the month is wrong; expected 1-12 or jan-dec"),
        ("0 0 * * 8", "UTC", "the day-of-week is wrong"),
        ("0 0 * * mon#6", "UTC", "the day-of-week is wrong"),
        ("*/0 * * * *", "UTC", "the minute is wrong"),
        ("5-1 * * * *", "UTC", "the minute is wrong"),
        (",".join(["1"] * 200) + " * * * *", "UTC", "at most 200 characters"),
        ("x" * 10_000, "UTC", "neither an interval nor a crontab"),
        ("0 0 * * *", "Europe/Berln", "did you mean 'Europe/Berlin'?"),
        ("0 0 * * *", "berlin", "did you mean 'Europe/Berlin'?"),
        ("0 0 * * *", "../../etc/passwd", "time zone '../../etc/passwd' is unknown"),
        ("0 0 * * *", "localtime", "time zone 'localtime' is unknown"),
        ("0 0 * * *", "", "write it like Europe/Berlin or UTC"),
    ],
)
def test_what_is_refused(text: str, zone: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        parse(text, zone)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 0.0, LEAST_INTERVAL_S / 2, MOST_INTERVAL_S * 2])
def test_no_interval_is_out_of_bounds(seconds: float) -> None:
    with pytest.raises(ValueError, match="interval out of range"):
        Every(seconds)


@pytest.mark.parametrize(
    ("cadence", "text", "said"),
    [
        (Every(0.5), "500ms", "every 500 ms"),
        (Every(1.5), "1.5s", "every 1.5 s"),
        (Every(1_000_000.5), "1000000.5s", "every 1000000.5 s"),
        (Every(90), "90s", "every 90 s"),
        (Every(300), "5min", "every 5 min"),
        (Every(7200), "2h", "every 2 h"),
        (Cron("30 2 * * *", "Europe/Berlin"), "30 2 * * *", "At 02:30 every day (Europe/Berlin)"),
    ],
)
def test_as_it_is_kept_and_as_people_say_it(cadence: Cadence, text: str, said: str) -> None:
    assert (text_of(cadence), describe(cadence)) == (text, said)


def test_an_interval_counts_from_its_anchor_either_way() -> None:
    anchor = datetime(2026, 5, 1, 12, 0, 3, tzinfo=UTC)
    due = [fires_after(Every(10), anchor + timedelta(seconds=s), anchor) for s in (-10, 0, 0.5, 10, 1234.5)]
    assert [(one - anchor).total_seconds() for one in due] == [0, 10, 10, 20, 1240]
    assert fires(Every(0.1), anchor, anchor, 3)[-1] - anchor == timedelta(milliseconds=300)


def test_a_day_of_the_month_or_of_the_week_suffices_as_on_unix() -> None:
    due = fires(Cron("0 12 13 * fri", "UTC"), datetime(2026, 2, 1, tzinfo=UTC), ANCHOR, 5)
    assert [one.day for one in due] == [6, 13, 20, 27, 6]


def test_a_leap_day_is_waited_for() -> None:
    assert fires_after(Cron("0 0 29 2 *", "UTC"), ANCHOR, ANCHOR) == datetime(2028, 2, 29, tzinfo=UTC)
    assert fires_after(Cron("0 0 * 2 mon#5", "UTC"), ANCHOR, ANCHOR) == datetime(2044, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "expression", "forward", "back"),
    [
        # Fixed times: once a day. In the gap at its end; in the hour that comes twice, the first time.
        ("Europe/Berlin", "30 2 * * *", ["03:00 +0200"], ["02:30 +0200"]),
        ("Europe/Berlin", "0,30 2 * * *", ["03:00 +0200"], ["02:00 +0200", "02:30 +0200"]),
        ("Europe/Berlin", "30 1-3 * * *", ["01:30 +0100", "03:00 +0200", "03:30 +0200"], 3),
        ("Europe/Berlin", "0 3 * * *", ["03:00 +0200"], ["03:00 +0100"]),
        ("America/New_York", "30 2 * * *", ["03:00 -0400"], ["02:30 -0500"]),
        ("America/New_York", "30 1 * * *", ["01:30 -0500"], ["01:30 -0400"]),
        ("Australia/Lord_Howe", "15 2 * * *", ["02:30 +1100"], ["02:15 +1030"]),
        ("Australia/Lord_Howe", "45 1 * * *", ["01:45 +1030"], ["01:45 +1100"]),
        # By elapsed time: the gap is not there, and what comes twice is there twice.
        ("Europe/Berlin", "0 * * * *", 23, 25),
        ("Europe/Berlin", "*/15 * * * *", 92, 100),
        ("America/New_York", "*/15 * * * *", 92, 100),
        ("Australia/Lord_Howe", "*/15 * * * *", 94, 98),
        ("Australia/Lord_Howe", "45 * * * *", 24, 25),
        (
            "Europe/Berlin",
            "*/30 2 * * *",
            [],
            ["02:00 +0200", "02:30 +0200", "02:00 +0100", "02:30 +0100"],
        ),
    ],
)
def test_changes_of_the_clock(zone: str, expression: str, forward: list[str] | int, back: list[str] | int) -> None:
    for day, expected in zip(CHANGES[zone], (forward, back), strict=True):
        found = shown(zone, expression, day)
        assert (len(found) if isinstance(expected, int) else found) == expected, day


def test_in_the_second_of_two_hours_what_the_first_had_is_past() -> None:
    second = datetime(2026, 10, 25, 2, 10, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)
    for after in (second, second + timedelta(hours=1)):
        due = fires_after(Cron("30 2 * * *", "Europe/Berlin"), after, ANCHOR)
        assert due == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_every_quarter_of_an_hour_is_a_quarter_of_an_hour_through_each_change() -> None:
    for zone, days in CHANGES.items():
        for day in days:
            start = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(hours=16)
            due = fires(Cron("*/15 * * * *", zone), start, ANCHOR, 200)
            assert {later - one for one, later in pairwise(due)} == {timedelta(minutes=15)}, zone


NAMES = {"JAN": 1, "DEC": 12, "SUN": 0, "MON": 1, "SAT": 6}


def members(field: str, least: int, most: int) -> set[int]:
    """The numbers that one field names, read in another way than the library does."""
    found: set[int] = set()
    for term in field.split(","):
        span, _, step = term.partition("/")
        if span == "*":
            low, high = least, most
        else:
            first, dash, last = (NAMES.get(part, part) for part in span.partition("-"))
            low = int(first)
            high = int(last) if dash else most if step else low
        found |= {n for n in range(low, high + 1) if (n - low) % int(step or 1) == 0}
    return found


class Model:
    """A clock on the wall, looked at each minute: what it shows, and what it has shown at the most."""

    def __init__(self, expression: str) -> None:
        minute, hour, day, month, weekday = expression.split()
        self.minutes, self.hours = members(minute, 0, 59), members(hour, 0, 23)
        self.days, self.months = members(day, 1, 31), members(month, 1, 12)
        self.weekdays = {n % 7 for n in members(weekday, 0, 7)}
        self.both = day.startswith("*") or weekday.startswith("*")
        self.elapsed = minute.startswith("*") or hour.startswith("*")

    def names(self, wall: datetime) -> bool:
        if wall.minute not in self.minutes or wall.hour not in self.hours or wall.month not in self.months:
            return False
        fits = (wall.day in self.days, wall.isoweekday() % 7 in self.weekdays)
        return all(fits) if self.both else any(fits)

    def due(self, zone: str, day: str) -> list[datetime]:
        """Around that day: from a day and a half before it to as long after it."""
        found = []
        most = window(zone, day)[0][1]
        for moment, wall in window(zone, day)[1:]:
            # What was skipped is due with the first minute that is shown after it; what is shown again is past.
            skipped = (most + n * MINUTE for n in range(1, (wall - most) // MINUTE + 1))
            if self.names(wall) if self.elapsed else any(self.names(one) for one in skipped):
                found.append(moment)
            most = max(most, wall)
        return found


@cache
def window(zone: str, day: str) -> list[tuple[datetime, datetime]]:
    """Each minute around that day, and what the clock shows then."""
    start = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(hours=36)
    return [
        (t, t.astimezone(ZoneInfo(zone)).replace(tzinfo=None)) for t in (start + n * MINUTE for n in range(72 * 60))
    ]


def field(least: int, most: int, *, often: str) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    # Of one number (5-5/10) no span: there cronsim takes the step to count on from it.
    span = st.lists(number, min_size=2, max_size=2, unique=True).map(lambda two: f"{min(two)}-{max(two)}")
    stepped = st.tuples(st.one_of(st.just("*"), span, number.map(str)), st.integers(1, 20)).map(
        lambda p: f"{p[0]}/{p[1]}"
    )
    term = st.one_of(number.map(str), span, stepped)
    listed = st.lists(st.one_of(number.map(str), span), min_size=1, max_size=3).map(",".join)
    return st.one_of(st.just("*"), st.just(often), term, listed)


expressions = st.tuples(
    field(0, 59, often="30"),
    field(0, 23, often="1-3"),
    field(1, 31, often="*"),
    field(1, 12, often="*"),
    field(0, 7, often="*"),
).map(" ".join)
changes = st.sampled_from([(zone, day) for zone, days in CHANGES.items() for day in days])
calm = st.sampled_from([("UTC", "2028-02-29"), ("Asia/Kolkata", "2026-12-31"), ("Europe/Berlin", "2026-06-15")])
# Midnight that is skipped, a day that is skipped, offsets that are changed without a season.
odd = st.sampled_from(
    [("Africa/Cairo", "2026-04-24"), ("America/Santiago", "2026-09-06"), ("Pacific/Apia", "2011-12-31")]
)


@settings(deadline=None)
@given(expression=expressions, where=st.one_of(changes, changes, calm, odd))
def test_it_is_due_when_a_clock_looked_at_each_minute_says_so(expression: str, where: tuple[str, str]) -> None:
    try:
        cadence = Cron(expression, where[0])
    except ValueError:  # a day that no month of it has
        return
    minutes = window(*where)
    found, last = [], minutes[0][0]
    while (last := fires_after(cadence, last, ANCHOR)) <= minutes[-1][0]:
        found.append(last)
    assert found == Model(expression).due(*where)


@settings(deadline=None)
@given(
    cadence=st.one_of(
        st.floats(LEAST_INTERVAL_S, MOST_INTERVAL_S).map(Every),
        st.tuples(expressions.filter(lambda e: e.split()[2:4] == ["*", "*"]), changes).map(
            lambda p: Cron(p[0], p[1][0])
        ),
    ),
    seconds=st.floats(-1e8, 1e9),
)
def test_it_goes_on_without_end_and_is_read_back_as_it_was(cadence: Cadence, seconds: float) -> None:
    after = ANCHOR + timedelta(seconds=seconds)
    due = fires(cadence, after, ANCHOR, 20)
    assert all(one < later for one, later in pairwise([after, *due]))
    assert fires_after(cadence, due[3] - timedelta(microseconds=1), ANCHOR) == due[3]
    zone = cadence.zone if isinstance(cadence, Cron) else "UTC"
    assert parse(text_of(cadence), zone) == cadence
    assert describe(cadence)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 23), st.integers(0, 59), st.sampled_from(sorted(CHANGES)))
def test_what_is_due_daily_is_due_each_day_of_the_year(hour: int, minute: int, zone: str) -> None:
    start = datetime(2026, 1, 1, tzinfo=ZoneInfo(zone)) - timedelta(seconds=1)
    due = fires(Cron(f"{minute} {hour} * * *", zone), start, ANCHOR, 365)
    local = [one.astimezone(ZoneInfo(zone)) for one in due]
    assert [one.timetuple().tm_yday for one in local] == list(range(1, 366))
    assert sum((one.hour, one.minute) != (hour, minute) for one in local) <= 1
