"""The decision of beat against a model that fires second by second: late is once, an edit is no storm, nothing is skipped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from config.cadence import Cadence, Every, fires_after, parse
from scheduler.core.schedule import MISSED_MOST, Plan, Scheduled, Tick, due_after_edit, missed, plan

START = datetime(2026, 3, 1, tzinfo=UTC)
CADENCES = [
    Every(1),
    Every(7),
    Every(60),
    parse("* * * * *"),
    parse("*/7 3 * * *", "Europe/Berlin"),
    parse("30 2 * * *"),
]
cadences = st.sampled_from(CADENCES)
seconds = st.integers(0, 1_200)


def at(offset_s: float) -> datetime:
    return START + timedelta(seconds=offset_s)


def entry(name: str, cadence: Cadence, due_at: datetime, *, enabled: bool = True) -> Scheduled:
    return Scheduled(name, cadence, enabled, due_at)


def times(cadence: Cadence, first: datetime, until: datetime) -> list[datetime]:
    """The model: every time from the first on, one by one."""
    found = []
    while first <= until:
        found.append(first)
        first = fires_after(cadence, first, first)
    return found


@given(cadences, seconds, seconds)
def test_however_late_one_tick_stands_for_all_that_were_missed_and_counts_them(
    cadence: Cadence, due_s: int, now_s: int
) -> None:
    due_at, now = at(due_s), at(now_s)
    made = plan([entry("one", cadence, due_at)], now)
    passed = times(cadence, due_at, now)
    if not passed:
        assert made == Plan((), due_at)
        return
    assert made.wake_at is not None
    assert made.ticks == (Tick("one", due_at, made.wake_at, min(len(passed) - 1, MISSED_MOST)),)
    assert made.wake_at > now
    assert made.wake_at == fires_after(cadence, passed[-1], passed[-1])


@given(cadences, st.lists(st.integers(1, 90), min_size=1, max_size=60))
def test_who_looks_at_any_times_sends_or_counts_each_time_once(cadence: Cadence, pauses_s: list[int]) -> None:
    due_at = first = fires_after(cadence, START, START)
    now, sent, skipped = START, [], 0
    for pause_s in pauses_s:
        now += timedelta(seconds=pause_s)
        for tick in plan([entry("one", cadence, due_at)], now).ticks:
            sent.append(tick.due_at)
            skipped += tick.missed
            due_at = tick.next_at
    every = times(cadence, first, now)
    assert len(sent) + skipped == len(every)
    assert set(sent) <= set(every)
    assert len(sent) == len(set(sent))


@given(st.lists(st.tuples(cadences, seconds, st.booleans()), max_size=6), seconds)
def test_the_next_look_is_at_the_next_time_of_any_that_is_enabled(
    drawn: list[tuple[Cadence, int, bool]], now_s: int
) -> None:
    entries = [
        entry(str(number), cadence, at(due_s), enabled=enabled)
        for number, (cadence, due_s, enabled) in enumerate(drawn)
    ]
    made = plan(entries, at(now_s))
    after = {tick.name: tick.next_at for tick in made.ticks}
    assert {tick.name for tick in made.ticks} == {
        one.name for one in entries if one.enabled and one.due_at <= at(now_s)
    }
    assert made.wake_at == min((after.get(one.name, one.due_at) for one in entries if one.enabled), default=None)
    assert [tick.due_at for tick in made.ticks] == sorted(tick.due_at for tick in made.ticks)


@given(cadence=cadences, due_s=seconds, now_s=seconds, enabled=st.booleans())
def test_one_that_is_asked_for_is_sent_now_and_moves_no_time(
    *, cadence: Cadence, due_s: int, now_s: int, enabled: bool
) -> None:
    asked = Scheduled("one", cadence, enabled, at(due_s), asked_at=at(now_s - 1))
    ticks = plan([asked], at(now_s)).ticks
    assert [tick for tick in ticks if tick.asked] == [Tick("one", at(now_s - 1), at(due_s), asked=True)]
    unasked = plan([entry("one", cadence, at(due_s), enabled=enabled)], at(now_s))
    assert tuple(tick for tick in ticks if not tick.asked) == unasked.ticks


@given(cadences, cadences, seconds, seconds)
def test_an_edit_fires_nothing_that_has_passed(old: Cadence, new: Cadence, last_s: int, now_s: int) -> None:
    now, last = at(now_s), at(min(last_s, now_s))
    old_due_at = fires_after(old, last, last)
    due_at = due_after_edit(new, now, last, old_due_at=old_due_at, was_enabled=True)
    # What was overdue stays so, once; else it is the next time of the new one, and never one that has passed.
    assert due_at == (old_due_at if old_due_at <= now else fires_after(new, now, last))
    assert len(plan([entry("one", new, due_at)], now).ticks) == (old_due_at <= now)


@given(cadences, seconds, seconds)
def test_one_that_is_enabled_makes_up_for_nothing(cadence: Cadence, last_s: int, now_s: int) -> None:
    now, last = at(now_s), at(min(last_s, now_s))
    due_at = due_after_edit(cadence, now, last, old_due_at=last, was_enabled=False)
    assert due_at > now


def test_what_is_counted_has_an_end() -> None:
    assert missed(Every(1), START, at(10**7)) == MISSED_MOST
    assert missed(parse("* * * * *"), START, at(10**7)) == MISSED_MOST
