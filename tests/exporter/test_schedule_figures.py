"""A beat that sends is told for as long as its session lives; entries are told by what was sent, missed and is due."""

from __future__ import annotations

import pytest

from scheduler.store import beat
from scheduler.store import schedule as store
from scheduler.store.database import Database
from tasks.exporter import schedule
from tests.support.eventually import eventually

pytestmark = pytest.mark.usefixtures("settings")

TICK = "pool.reap"


def figures(db: Database) -> dict[tuple[str, ...], float]:
    return {(s.name, *s.labels.values()): s.value for metric in schedule.read(db) for s in metric.samples}


def test_a_beat_is_active_while_its_session_holds_the_lease(db: Database) -> None:
    assert figures(db)["stoker_beat_active",] == 0
    assert ("stoker_beat_lease_age_seconds",) not in figures(db)
    with db.connection() as connection:
        assert beat.acquire(connection, "here", 1, lease_s=60.0)
        assert figures(db)["stoker_beat_active",] == 1
        assert 0 <= figures(db)["stoker_beat_lease_age_seconds",] < 60
        connection.close()
    # The server ends a session some time after its client has gone.
    eventually(lambda: figures(db)["stoker_beat_active",] == 0, "its session has ended", within_s=20)


def test_an_entry_that_is_due_is_told_and_one_that_is_disabled_waits_for_nobody(db: Database) -> None:
    db.rows(
        "update schedule set due_at = now() - interval '9 s', anchor_at = now() - interval '19 s', sent = 4, missed = 2"
    )
    found = figures(db)
    assert 9 <= found["stoker_schedule_overdue_seconds", TICK] < 60
    assert (found["stoker_schedule_sent_total", TICK], found["stoker_schedule_missed_total", TICK]) == (4, 2)
    store.set_enabled(db, TICK, enabled=False, by="somebody")
    assert figures(db)["stoker_schedule_overdue_seconds", TICK] == 0
