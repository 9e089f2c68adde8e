"""A profile that fails waits ever longer; a burst that fails together is one failure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.backoff import Pace, SpawnRecord, after_failure

NOW = datetime(2030, 1, 1, tzinfo=UTC)
FIRST, LONGEST = timedelta(seconds=2), timedelta(seconds=300)


def fail(record: SpawnRecord, created: datetime, now: datetime) -> SpawnRecord:
    return after_failure(record, created, now, first=FIRST, longest=LONGEST)


def test_the_first_failure_waits_the_first_wait() -> None:
    assert fail(SpawnRecord(), NOW, NOW) == SpawnRecord(1, NOW + FIRST)


def test_what_is_nobodys_fault_holds_nothing_up() -> None:
    record = SpawnRecord(3, NOW)
    assert after_failure(record, NOW, NOW, first=FIRST, longest=LONGEST, pace=Pace.NONE) is record


def test_what_only_a_person_can_mend_is_tried_as_seldom_as_it_gets() -> None:
    then = after_failure(SpawnRecord(), NOW, NOW, first=FIRST, longest=LONGEST, pace=Pace.LONGEST)
    assert then == SpawnRecord(1, NOW + LONGEST)


def test_a_generation_that_fails_together_is_one_piece_of_news() -> None:
    record = fail(SpawnRecord(), NOW, NOW)
    for _ in range(30):
        record = fail(record, NOW, NOW + timedelta(seconds=1))
    assert record == SpawnRecord(1, NOW + FIRST)


def test_a_straggler_of_an_old_generation_changes_nothing() -> None:
    assert record_after(3) == fail(record_after(3), NOW, NOW + timedelta(hours=1))


@given(st.integers(1, 200))
def test_each_generation_doubles_up_to_the_longest(generations: int) -> None:
    now, record = NOW, SpawnRecord()
    waits = []
    for _ in range(generations):
        record = fail(record, now, now)
        assert record.until is not None
        waits.append(record.until - now)
        now = record.until
    assert waits[0] == FIRST
    assert all(later == min(LONGEST, 2 * earlier) for earlier, later in pairwise(waits))


def record_after(generations: int) -> SpawnRecord:
    now, record = NOW, SpawnRecord()
    for _ in range(generations):
        record = fail(record, now, now)
        now = record.until or now
    return record
