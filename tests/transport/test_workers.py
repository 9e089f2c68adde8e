"""What Celery does with its queues, by workers in processes of their own: they run, pause, are asked, revoked and purged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import chain, chord, group
from celery.exceptions import TaskRevokedError

from scheduler.redis.queues.keys import COUNTS_KEY, counter
from tests.support.eventually import eventually
from tests.support.queue_app import LATER, URGENT
from tests.support.queue_lab import WAIT_S, Lab
from tests.transport.conftest import POOLS, Broker

SLOTS = 2


@pytest.fixture(scope="module")
def labs(broker: Broker) -> Iterator[dict[str, Lab]]:
    """A lab with a worker of each pool, shared by the tests: each has keys of its own, and leaves nothing behind."""
    with ExitStack() as down:
        made = {pool: down.enter_context(broker.lab(number)) for number, pool in enumerate(POOLS)}
        for pool, each in made.items():
            each.start(pool, SLOTS)
        for each in made.values():
            each.until_ready(*each.workers)
        yield made


@pytest.fixture(params=POOLS)
def on(request: pytest.FixtureRequest, labs: dict[str, Lab]) -> Iterator[Lab]:
    """Once with each pool."""
    made = labs[request.param]
    yield made
    made.until_idle()


def ask(of: Lab, what: str, **arguments: Any) -> Any:
    """What the worker answers to `celery inspect`."""
    return of.ask(of.workers[0], what, **arguments)


def busy(of: Lab, key: str) -> None:
    """Every slot runs a task that is held."""
    of.send("late", key, *range(SLOTS), hold=True)
    of.stage.hear("begins", key, SLOTS)
    of.until_accepted(of.workers[0], SLOTS)


def test_the_better_class_first_and_within_a_queue_the_older(on: Lab, key: str) -> None:
    blocker = f"{key}-blocker"
    busy(on, blocker)
    for n in (1, 2, 3):
        on.send("late", key, n, queue=LATER, hold=True)
    on.send("late", key, 10, 11, queue=URGENT, hold=True)
    assert on.queued() == [10, 11, 1, 2, 3]
    # One slot: who begins next begins when one ends.
    on.stage.let(blocker)
    for _ in range(5):
        on.stage.hear("begins", key)
        on.stage.let(key)
    on.stage.hear("ends", key, 5)
    assert on.stage.said("begins", key) == [10, 11, 1, 2, 3]
    on.stage.let(blocker)


def test_an_early_task_is_acknowledged_when_it_begins_and_a_late_one_when_it_has_ended(on: Lab, key: str) -> None:
    on.send("early", key, 1, hold=True)
    assert on.stage.hear("begins", key)[0]["stamped"]
    eventually(lambda: on.held() == 0, "it is acknowledged", within_s=WAIT_S)
    on.send("late", key, 2, hold=True)
    on.stage.hear("begins", key)
    assert on.held() == 1
    on.stage.let(key, 2)


def test_a_full_worker_holds_no_more_than_it_may(on: Lab, key: str) -> None:
    busy(on, key)
    on.send("late", key, *range(SLOTS, 9))
    # It has seen the messages and been asked something since.
    assert len(ask(on, "active")) == SLOTS
    assert (on.held(), on.queued()) == (SLOTS, list(range(SLOTS, 9)))
    on.stage.let(key, SLOTS)
    on.stage.hear("ends", key, 9)


def test_a_full_worker_looks_again_as_soon_as_a_task_ends(on: Lab, key: str) -> None:
    """A worker that polls every two seconds would take minutes: more than `hear` waits."""
    on.send("late", key, *range(200))
    on.stage.hear("ends", key, 200)
    assert sorted(on.stage.said("begins", key)) == list(range(200))


def test_the_worker_answers_what_it_does(on: Lab, key: str) -> None:
    worker = on.workers[0].hostname
    assert on.app.control.ping(destination=[worker], timeout=10, limit=1) == [{worker: {"ok": "pong"}}]
    assert {queue["name"] for queue in ask(on, "active_queues")} == {URGENT, LATER}
    assert ask(on, "stats")["broker"]["transport"].startswith("redis")
    busy(on, key)
    assert {each["kwargs"]["hold"] for each in ask(on, "active")} == {True}
    assert ask(on, "reserved") == []
    on.stage.let(key, SLOTS)


def test_a_rate_limit_spaces_tasks(on: Lab, key: str) -> None:
    assert "ok" in ask(on, "rate_limit", task_name="late", rate_limit="2/s")
    on.send("late", key, *range(4))
    at = [each["at"] for each in on.stage.hear("begins", key, 4)]
    assert at[-1] - at[0] > 0.7
    assert "ok" in ask(on, "rate_limit", task_name="late", rate_limit="0")


def test_a_purge_takes_what_waits_and_leaves_what_runs(on: Lab, key: str) -> None:
    busy(on, key)
    on.send("late", key, *range(10, 15))
    with on.app.connection_for_write() as connection:
        assert on.app.amqp.queues[LATER].bind(connection.default_channel).purge() == 5
    on.stage.let(key, SLOTS)
    on.stage.hear("ends", key, SLOTS)
    on.send("late", key, 20)
    on.stage.hear("ends", key)
    assert sorted(on.stage.said("begins", key)) == [*range(SLOTS), 20]


def test_a_paused_queue_keeps_its_messages_while_others_are_served(on: Lab, key: str) -> None:
    assert "ok" in ask(on, "cancel_consumer", queue=LATER)
    # Without an event loop a worker does so at its next turn.
    served = [URGENT]
    eventually(lambda: [each["name"] for each in ask(on, "active_queues")] == served, "it is done", within_s=WAIT_S)
    on.send("late", key, 1, 2, queue=LATER)
    on.send("late", key, 10, 11, queue=URGENT)
    on.stage.hear("ends", key, 2)
    # Two slots begin at once, in whatever order the machine has it.
    assert sorted(on.stage.said("begins", key)) == [10, 11]
    assert on.queued() == [1, 2]
    assert "ok" in ask(on, "add_consumer", queue=LATER)
    on.stage.hear("ends", key, 2)
    assert sorted(on.stage.said("ends", key)) == [1, 2, 10, 11]


def test_what_is_revoked_before_it_is_taken_does_not_run(on: Lab, key: str) -> None:
    blocker = f"{key}-blocker"
    busy(on, blocker)
    gone, stays = on.send("late", key, 1, 2)
    assert "ok" in ask(on, "revoke", task_id=gone.id)
    on.stage.let(blocker, SLOTS)
    with pytest.raises(TaskRevokedError):
        gone.get(timeout=WAIT_S)
    assert stays.get(timeout=WAIT_S) == 2
    assert on.stage.said("begins", key) == [2]


def test_what_is_terminated_frees_its_slot(labs: dict[str, Lab], key: str) -> None:
    on = labs["prefork"]
    for name, how in (("late", "KILL"), ("early", "TERM"), ("late", "TERM"), ("early", "KILL")):
        running = on.send(name, key, *range(SLOTS), hold=True)
        on.stage.hear("begins", key, SLOTS)
        assert "ok" in ask(on, "revoke", task_id=[each.id for each in running], terminate=True, signal=how)
        for each in running:
            with pytest.raises(TaskRevokedError):
                each.get(timeout=WAIT_S)
        on.send("late", key, 9)
        for event in ("begins", "ends"):
            on.stage.hear(event, key)
    on.until_idle()


def test_a_greenlet_that_is_terminated_frees_its_slot(labs: dict[str, Lab], key: str) -> None:
    on = labs["gevent"]
    running = on.send("late", key, *range(SLOTS), hold=True)
    on.stage.hear("begins", key, SLOTS)
    assert "ok" in ask(on, "revoke", task_id=[each.id for each in running], terminate=True)
    on.send("late", key, 9)
    on.stage.hear("ends", key)
    on.until_idle()


def test_a_task_of_a_later_time_waits_and_is_held(on: Lab, key: str) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    counted, due = on.send("late", key, 1, countdown=0.3)[0], on.send("late", key, 2, eta=soon)[0]
    much_later = on.send("late", key, 3, countdown=3600)[0]
    assert sorted([counted.get(timeout=WAIT_S), due.get(timeout=WAIT_S)]) == [1, 2]
    eventually(lambda: on.held() == 1, "the others are acknowledged", within_s=WAIT_S)
    assert [each["request"]["id"] for each in ask(on, "scheduled")] == [much_later.id]
    assert "ok" in ask(on, "revoke", task_id=much_later.id)
    # What waits holds no slot.
    on.send("late", key, *range(10, 16))
    on.stage.hear("ends", key, 8)
    # A revoked one is dropped when its time comes; here nobody waits an hour for that.
    on.store.delete("unacked", "unacked_index")


def test_chains_groups_and_chords_end_with_their_results(on: Lab) -> None:
    add = on.app.tasks["add"]
    assert chain(add.s(1, 2), add.s(3), add.s(4)).apply_async().get(timeout=WAIT_S) == 10
    assert group(add.s(n, n) for n in range(8)).apply_async().get(timeout=WAIT_S) == [2 * n for n in range(8)]
    assert chord((add.s(n, 1) for n in range(8)), add.s()).apply_async().get(timeout=WAIT_S) == 36


def test_a_priority_changes_nothing(on: Lab, key: str) -> None:
    asked = [on.send("late", key, n, priority=n)[0] for n in range(10)]
    assert [each.get(timeout=WAIT_S) for each in asked] == list(range(10))
    assert not [name for name in on.store.scan_iter(f"{LATER}*") if name != LATER]


def test_what_is_taken_is_counted(on: Lab, key: str) -> None:
    before = int(on.store.hget(COUNTS_KEY, counter(URGENT, "taken")) or 0)
    on.send("late", key, 1, 2, 3, queue=URGENT)
    on.stage.hear("ends", key, 3)
    assert int(on.store.hget(COUNTS_KEY, counter(URGENT, "taken")) or 0) == before + 3
