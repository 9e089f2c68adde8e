"""The lease of beat and the claim of a tick, by the statements themselves: one holder, one claim, and nothing from the past."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta

import pytest

from scheduler.core.schedule import Tick, plan
from scheduler.store import beat, schedule
from scheduler.store.beat import Claimed
from scheduler.store.database import Connection, Database
from scheduler.store.entries import Entry
from scheduler.store.session import Session
from tests.support import racers
from tests.support.crowd import crowd
from tests.support.eventually import eventually

ENTRY = "nightly"
# Longer than any of these takes on a busy machine: what is to expire is made to.
LONG_S = 60.0


@pytest.fixture
def sessions(database_url: str) -> Iterator[list[Session]]:
    """Three beats, of which none holds the lease."""
    with ExitStack() as down:
        made = [Session(database_url, schedule.CHANNEL, answer_s=4.0) for _ in range(3)]
        for session in made:
            down.callback(session.close)
        yield made


@pytest.fixture
def overdue(db: Database) -> Entry:
    """An entry of every minute, last sent five and a half minutes ago."""
    schedule.set_entry(db, ENTRY, {"task": "a.b", "cadence": "1min", "args": [1], "queue": "spawn"}, by="alice")
    db.rows(
        "update schedule set anchor_at = now() - interval '330 s', due_at = now() - interval '270 s' where name = %(name)s",
        name=ENTRY,
    )
    return schedule.entry(db, ENTRY)


def acquire(session: Session) -> int | None:
    return session.run(lambda connection: beat.acquire(connection, "host", os.getpid(), lease_s=LONG_S))


def held(session: Session) -> int:
    epoch = acquire(session)
    assert epoch is not None
    return epoch


def due(session: Session, *, name: str = ENTRY) -> tuple[Entry, Tick]:
    entries, now = session.run(beat.look)
    (tick,) = (
        tick for tick in plan([one.scheduled for one in entries if one.scheduled], now).ticks if tick.name == name
    )
    return next(one for one in entries if one.name == name), tick


def claim(session: Session, entry: Entry, tick: Tick, epoch: int) -> Claimed | None:
    return session.run(lambda connection: beat.claim(connection, entry, tick, epoch))


def expire(db: Database) -> None:
    db.rows(
        "update beat_lease set since = now() - interval '9 s', renewed_at = now() - interval '8 s',"
        " until = now() - interval '3 s'"
    )


def test_one_holds_the_lease_until_it_expires_or_its_session_ends(db: Database, sessions: list[Session]) -> None:
    one, two, three = sessions
    assert beat.active_beat(db) is None
    first = held(one)
    assert acquire(two) is None
    assert one.run(lambda connection: beat.renew(connection, first))
    holder = beat.active_beat(db)
    assert holder is not None
    assert (holder.host, holder.pid, holder.epoch) == ("host", os.getpid(), first)
    assert 0 <= holder.age_s < 5
    expire(db)
    assert beat.active_beat(db) is None
    second = held(two)
    assert second > first
    assert not one.run(lambda connection: beat.renew(connection, first))
    two.close()
    assert eventually(lambda: acquire(three), "taken over when the session has ended", within_s=5) > second


def test_a_holder_that_was_only_late_goes_on(db: Database, sessions: list[Session]) -> None:
    epoch = held(sessions[0])
    expire(db)
    assert sessions[0].run(lambda connection: beat.renew(connection, epoch))
    assert acquire(sessions[1]) is None


def test_an_overdue_tick_is_claimed_once_and_counts_what_it_stands_for(
    db: Database, sessions: list[Session], overdue: Entry
) -> None:
    epoch = held(sessions[0])
    seen, tick = due(sessions[0])
    claimed = claim(sessions[0], seen, tick, epoch)
    assert claimed is not None
    assert (claimed.task, claimed.args, claimed.queue, claimed.due_at) == ("a.b", [1], "spawn", overdue.due_at)
    assert claimed.task_id == beat.task_id(ENTRY, overdue.due_at)
    assert claim(sessions[0], seen, tick, epoch) is None
    now = schedule.entry(db, ENTRY)
    assert (now.sent, now.missed, now.anchor_at) == (1, 4, overdue.due_at)
    assert now.due_at == overdue.due_at + timedelta(minutes=5)
    assert sessions[0].run(lambda connection: beat.undone(connection, 9)) == [claimed]
    sessions[0].run(lambda connection: beat.done(connection, claimed))
    assert sessions[0].run(lambda connection: beat.undone(connection, 9)) == []


def test_of_processes_that_claim_the_same_tick_one_has_it(
    database_url: str, sessions: list[Session], overdue: Entry
) -> None:
    epoch = held(sessions[0])
    entry, tick = due(sessions[0])
    assert entry == overdue
    assert sorted(crowd(racers.claim_tick, [(database_url, entry, tick, epoch)] * 8)) == [False] * 7 + [True]


def test_who_has_lost_the_lease_claims_nothing(
    db: Database, sessions: list[Session], overdue: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = held(sessions[0])
    seen, tick = due(sessions[0])
    assert seen.due_at == overdue.due_at
    expire(db)
    assert claim(sessions[0], seen, tick, old) is None, "an expired lease claims nothing, though nobody took it"
    new = held(sessions[1])
    assert claim(sessions[0], seen, tick, old) is None
    # Without the fence, and without the rule behind it in SQL, the one of the past would have sent.
    monkeypatch.setattr(beat, "FENCE", "select where %(epoch)s > 0")
    db.rows("alter table ticks disable trigger guard_tick")
    try:
        assert claim(sessions[0], seen, tick, old) is not None
    finally:
        db.rows("alter table ticks enable trigger guard_tick")
    assert new > old


def test_an_entry_that_was_edited_since_it_was_seen_is_not_claimed(
    db: Database, sessions: list[Session], overdue: Entry
) -> None:
    epoch = held(sessions[0])
    seen, tick = due(sessions[0])
    schedule.set_entry(db, ENTRY, {"args": [2]}, by="bob")
    assert claim(sessions[0], seen, tick, epoch) is None
    claimed = claim(sessions[0], *due(sessions[0]), epoch)
    assert claimed is not None
    assert (claimed.args, claimed.due_at) == ([2], overdue.due_at)


def test_one_that_was_asked_for_is_claimed_once_and_no_time_moves(
    db: Database, sessions: list[Session], overdue: Entry
) -> None:
    schedule.set_enabled(db, ENTRY, enabled=False, by="alice")
    schedule.request_run(db, ENTRY, by="bob")
    epoch = held(sessions[0])
    seen, tick = due(sessions[0])
    assert claim(sessions[0], seen, tick, epoch) is not None
    assert claim(sessions[0], seen, tick, epoch) is None
    after = schedule.entry(db, ENTRY)
    assert (after.asked_at, after.due_at, after.sent) == (None, overdue.due_at, 1)
    (row,) = schedule.ticks(db, ENTRY)
    assert (row["asked_by"], row["due_at"]) == ("bob", seen.asked_at)


def test_a_process_that_is_killed_is_followed_at_once(db: Database, database_url: str, sessions: list[Session]) -> None:
    code = (
        "import sys; from scheduler.store import beat; from scheduler.store.session import Session\n"
        "session = Session(sys.argv[1], 'c', answer_s=4)\n"
        "print(session.run(lambda c: beat.acquire(c, 'host', 1, lease_s=60)), flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, database_url]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        epoch = int(child.stdout.readline())
        assert acquire(sessions[0]) is None
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    # Well within the lease, which still has seconds to go.
    assert eventually(lambda: acquire(sessions[0]), "taken over", within_s=5) == epoch + 1
    assert beat.active_beat(db) is not None


def test_of_the_ticks_of_an_entry_only_so_many_are_kept(
    db: Database, sessions: list[Session], overdue: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beat, "TICKS_KEPT", 3)
    epoch = held(sessions[0])
    for number in range(8):
        db.rows("update schedule set asked_at = now(), asked_by = 'a' where name = %(name)s", name=ENTRY)
        entry = schedule.entry(db, ENTRY)
        assert entry.asked_at is not None
        tick = Tick(ENTRY, entry.asked_at, entry.due_at, asked=True)
        claimed = claim(sessions[0], entry, tick, epoch)
        assert claimed is not None
        if number:  # the first is not known to have been sent: it stays
            _mark(sessions[0], claimed)
    assert [row["done_at"] is None for row in schedule.ticks(db, ENTRY)] == [False] * 4 + [True]
    assert beat.prune(db, timedelta(0), 100) == 5
    assert overdue.sent == 0


def test_a_holder_can_be_lifted_above_an_epoch_of_another_database(db: Database, sessions: list[Session]) -> None:
    epoch = held(sessions[0])
    assert sessions[1].run(lambda connection: beat.lift(connection, epoch, 100)) is None
    assert sessions[0].run(lambda connection: beat.lift(connection, epoch, 100)) == 101
    holder = beat.active_beat(db)
    assert holder is not None
    assert holder.epoch == 101


def _mark(session: Session, claimed: Claimed) -> None:
    def done(connection: Connection) -> None:
        beat.done(connection, claimed)

    session.run(done)
