"""A worker ends, politely or not: each message has run, or is where another worker finds it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.eventually import eventually
from tests.support.queue_app import LATER, URGENT
from tests.support.queue_lab import WAIT_S, Lab
from tests.transport.conftest import POOLS, Broker

# How often a worker looks for what was held too long; how long that is, a test says.
OFTEN = {"unacked_restore_interval": 0.2, "unacked_restore_throttle": 1}


@pytest.fixture
def fresh(broker: Broker) -> Iterator[Lab]:
    """An empty broker, and nobody there yet."""
    with broker.lab(len(POOLS)) as made:
        made.store.flushdb()
        yield made


def all_there(lab: Lab, key: str, numbers: range) -> None:
    """Each has ended or waits, none has done both, and nobody holds any."""
    assert sorted([*lab.stage.said("ends", key), *lab.queued()]) == list(numbers)
    assert lab.held() == 0


@pytest.mark.parametrize("pool", POOLS)
def test_a_warm_shutdown_ends_what_runs_and_leaves_the_rest(fresh: Lab, key: str, pool: str) -> None:
    worker = fresh.joined(pool)
    fresh.send("late", key, 0, queue=URGENT, hold=True)
    fresh.send("early", key, 1, queue=URGENT, hold=True)
    fresh.stage.hear("begins", key, 2)
    fresh.send("late", key, *range(2, 8))
    worker.process.send_signal(signal.SIGTERM)
    eventually(lambda: "Warm shutdown" in worker.log.read_text(), "it has heard", within_s=WAIT_S)
    fresh.stage.let(key, 2)
    assert worker.process.wait(WAIT_S) == 0
    assert {0, 1} <= set(fresh.stage.said("ends", key))
    all_there(fresh, key, range(8))


def test_a_cold_shutdown_puts_back_what_was_not_acknowledged(fresh: Lab, key: str) -> None:
    worker = fresh.joined("prefork")
    fresh.send("late", key, *range(5), hold=True)
    fresh.until_accepted(worker, 2)
    worker.end(signal.SIGQUIT)
    assert sorted(fresh.queued()) == list(range(5))
    assert fresh.held() == 0


def test_a_soft_shutdown_gives_what_runs_a_while(fresh: Lab, key: str) -> None:
    worker = fresh.joined("prefork", worker_soft_shutdown_timeout=3.0)
    fresh.send("late", key, 0, hold=True)
    fresh.send("late", f"{key}-stuck", 1, hold=True)
    fresh.until_accepted(worker, 2)
    fresh.send("late", key, 2, 3, hold=True)
    worker.process.send_signal(signal.SIGQUIT)
    eventually(lambda: "Soft Shutdown" in worker.log.read_text(), "it has heard", within_s=WAIT_S)
    fresh.stage.let(key)
    fresh.stage.hear("ends", key)
    worker.process.wait(WAIT_S)
    assert {0} <= set(fresh.stage.said("ends", key))
    assert {1, 2, 3} <= set(fresh.queued())
    assert fresh.held() == 0


def test_a_cold_shutdown_of_threads_loses_nothing_either(fresh: Lab, key: str) -> None:
    """Celery cannot end a thread, and fails: what ran is recorded as held, and comes back as a killed worker's would.

    Of gevent there is no such test: there Celery acknowledges, as if they had ended, the greenlets that it ends.
    """
    worker = fresh.joined("threads")
    fresh.send("late", key, *range(5), hold=True)
    fresh.stage.hear("begins", key, 2)
    worker.process.send_signal(signal.SIGQUIT)
    eventually(lambda: "again will terminate" in worker.log.read_text(), "it has heard", within_s=WAIT_S)
    fresh.stage.let(key, 2)
    worker.process.wait(WAIT_S)
    assert {*fresh.stage.said("ends", key), *fresh.queued(), *fresh.recorded()} == set(range(5))


@pytest.mark.parametrize(("doomed", "heir"), [("prefork", "gevent"), ("threads", "prefork"), ("gevent", "threads")])
def test_what_a_killed_worker_held_another_runs(fresh: Lab, key: str, doomed: str, heir: str) -> None:
    dying, next_ = fresh.start(doomed), fresh.start(heir, queues="elsewhere", broker_transport_options=OFTEN)
    fresh.until_ready(dying, next_)
    fresh.send("late", key, 0, queue=URGENT, hold=True)
    fresh.send("early", key, 1, queue=URGENT, hold=True)
    fresh.stage.hear("begins", key, 2)
    fresh.until_accepted(dying, 2)
    fresh.send("late", key, *range(2, 8))
    dying.kill()
    assert fresh.held() >= 1
    # As if their time were over. A time so short that nobody had to wait for it would be too short for what the heir runs.
    fresh.store.zadd("unacked_index", dict.fromkeys(fresh.store.zrange("unacked_index", 0, -1), 1), xx=True)
    fresh.stage.let(key, 3)  # the dead may have taken some along
    for queue in (URGENT, LATER):
        fresh.app.control.add_consumer(queue, destination=[next_.hostname], reply=True, timeout=10, limit=1)
    # What began and was acknowledged then is gone with its worker: that is what early means.
    fresh.stage.hear("ends", key, 7)
    assert sorted(fresh.stage.said("ends", key)) == [0, *range(2, 8)]
    assert sorted(fresh.stage.said("begins", key)) == [0, 0, *range(1, 8)]
    fresh.until_idle()


def test_what_a_killed_child_ran_runs_again_and_nothing_else_does(fresh: Lab, key: str) -> None:
    fresh.joined("prefork", task_reject_on_worker_lost=True)
    fresh.send("late", key, 0, queue=URGENT, hold=True)
    began = fresh.stage.hear("begins", key)[0]
    fresh.send("early", key, *range(1, 8))
    os.kill(began["pid"], signal.SIGKILL)
    fresh.stage.hear("begins", key, 8)
    fresh.stage.let(key, 2)  # the dead one may have taken one along
    fresh.stage.hear("ends", key, 8)
    assert sorted(fresh.stage.said("begins", key)) == [0, 0, *range(1, 8)]
    fresh.until_idle()


@pytest.mark.parametrize("pool", POOLS)
def test_without_prefetch_a_worker_holds_what_it_runs(fresh: Lab, key: str, pool: str) -> None:
    fresh.joined(pool, worker_disable_prefetch=True)
    fresh.send("early", key, *range(6), hold=True)
    fresh.stage.hear("begins", key, 2)
    # The broker answers a question of the worker's after it has seen all of them.
    fresh.app.control.ping(timeout=10, limit=1)
    assert fresh.queued() == [2, 3, 4, 5]
    fresh.stage.let(key, 6)
    fresh.stage.hear("ends", key, 6)


def test_without_prefetch_a_thread_that_has_ended_its_task_has_the_next_at_once(fresh: Lab, key: str) -> None:
    """If it told nobody, the event loop would find out two or three times a second."""
    fresh.joined("threads", 1, worker_disable_prefetch=True)
    fresh.send("early", key, *range(100))
    eventually(lambda: len(fresh.stage.said("ends", key)) == 100, "all have run", within_s=25)


def test_a_worker_and_a_publisher_of_stock_kombu_share_the_queues(fresh: Lab, broker: Broker, key: str) -> None:
    ours, stock = fresh.start("prefork"), fresh.start("prefork", stock=True)
    fresh.until_ready(ours, stock)
    with broker.lab(len(POOLS), stock=True) as old:
        for n in range(0, 60, 2):
            fresh.send("late", key, n)
            old.send("late", key, n + 1)
        fresh.stage.hear("ends", key, 60)
        # The old one goes, as at a rolling upgrade.
        old.send("late", key, *range(60, 70), hold=True)
        fresh.stage.hear("begins", key, 64)
        stock.process.send_signal(signal.SIGTERM)
        fresh.stage.let(key, 10)
        stock.process.wait(WAIT_S)
        old.send("late", key, *range(70, 80))
        fresh.stage.hear("ends", key, 20)
    assert sorted(fresh.stage.said("begins", key)) == list(range(80))
    fresh.until_idle()
