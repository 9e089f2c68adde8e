"""A process may be killed, Redis flushed, stopped or cut off, a message come twice: nothing is lost, nothing stays behind."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chain
from kombu.exceptions import OperationalError

from tasks.coalescing.repair import repair
from tasks.engines import EmbeddedValkey
from tests.support.coalescing_app import DEFAULT, SHELF, URGENT
from tests.support.coalescing_lab import WAIT_S, Lab, Worker, lab, valkey

SHORT = {"lease_s": 2.0, "look_s": 0.3}


@pytest.fixture
def quick(coalescing_valkey: EmbeddedValkey) -> Iterator[Lab]:
    """A lab of short leases, and nobody there yet."""
    with lab(coalescing_valkey, 2, coalescing=SHORT) as made:
        made.store.flushdb()
        yield made


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """One that may be cut off and stopped; what it held it holds again."""
    with valkey(tmp_path / "state", durable=True) as server:
        yield server


def joined(of: Lab, pool: str = "threads") -> Worker:
    worker = of.start(pool)
    of.until_ready(worker)
    return worker


def until_repaired(of: Lab, *results: Any) -> None:
    """The sweep's part, until all have ended."""

    def look() -> bool:
        repair(of.app, 100)
        return all(each.ready() for each in results)

    of.until(look, "every request has ended", within_s=30)
    of.until_nothing_is_left()


def held(of: Lab) -> int:
    """Messages that workers have taken and not acknowledged."""
    return int(of.store.hlen(f"{of.prefix}unacked"))


# --- killed


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_what_a_killed_worker_ran_another_runs_again(quick: Lab, key: str, pool: str) -> None:
    doomed = joined(quick, pool)
    quick.stage.hold(key)
    with quick.plugged():
        asked = [quick.task("fold").delay(key) for _ in range(3)]
    quick.stage.hear("begins", key)
    late = quick.task("fold").delay(key)
    doomed.kill()
    joined(quick)
    quick.stage.let(key, "return", "return")
    until_repaired(quick, *asked, late)
    assert {each.get(timeout=WAIT_S) for each in [*asked, late]} == {f"{key}#2"}, "the later leads them all"
    assert quick.task("fold").delay(key).get(timeout=WAIT_S) == f"{key}#3"


def test_who_waited_for_the_lane_of_a_killed_worker_gets_it(quick: Lab, key: str) -> None:
    first, second = f"{key}-first", f"{key}-second"
    doomed = joined(quick)
    quick.stage.hold(first)
    dead = quick.task("laned").delay(first, key)
    quick.stage.hear("begins", first)
    waits = quick.task("laned").delay(second, key)
    quick.until(lambda: quick.store.exists("{stoker}:parked"), "it is parked")
    doomed.kill()
    joined(quick)
    quick.stage.let(first)
    until_repaired(quick, dead, waits)
    assert (dead.get(timeout=WAIT_S), waits.get(timeout=WAIT_S)) == (f"{first}#2", f"{second}#1")


@pytest.mark.parametrize("whose", ["leader", "follower"])
def test_a_worker_killed_while_it_publishes_what_comes_next_loses_no_chain(quick: Lab, key: str, whose: str) -> None:
    fold, deadly = quick.task("fold"), quick.task("deadly")
    doomed = joined(quick)
    quick.stage.redis.set(f"deadly:{key}", 1)
    chained, alone = chain(fold.si(key), deadly.s(key)), fold.si(key)
    with quick.plugged():
        first, second = (chained, alone) if whose == "leader" else (alone, chained)
        # Lifted: there are copies of its message, and it may not be dropped as one of them when it comes again.
        asked = [first.apply_async(), second.apply_async(), fold.apply_async((key,), queue=URGENT)]
    doomed.process.wait(WAIT_S)
    joined(quick)
    until_repaired(quick, *asked)
    assert {each.get(timeout=WAIT_S).partition("#")[0] for each in asked} == {key}
    assert quick.stage.runs(key) == 2


def test_a_message_in_the_hands_of_a_killed_worker_is_published_again(quick: Lab, key: str) -> None:
    doomed = joined(quick)
    with quick.plugged():
        asked = [quick.task("slow_to_begin").delay(key) for _ in range(3)]
    quick.stage.hear("taken", key)
    doomed.kill()
    joined(quick)
    quick.stage.redis.rpush(f"begin:{key}", *range(9))
    until_repaired(quick, *asked)
    assert {each.get(timeout=WAIT_S) for each in asked} == {f"{key}#1"}


def test_a_publisher_killed_at_any_instant_leaves_no_leader_without_a_message(quick: Lab, key: str) -> None:
    script = (
        "import sys; from itertools import count; from tests.support.coalescing_app import SHELF, build\n"
        "fold = build(*sys.argv[1:3]).tasks['fold']\n"
        "for n in count(): fold.apply_async((f'{sys.argv[3]}-{n}',), queue=SHELF)"
    )
    arguments = [sys.executable, "-c", script, quick.broker, quick.stage_url]
    for wanted in (1, 50, 123):
        quick.store.flushdb()
        publishers = [subprocess.Popen([*arguments, f"{key}-{n}"], cwd=Path(__file__).parents[2]) for n in range(2)]
        quick.until(lambda wanted=wanted: quick.store.llen(SHELF) >= wanted, "so many are published", within_s=30)
        for each in publishers:
            each.kill()
        for each in publishers:
            each.wait()
        leading = [open_[2:] for open_ in quick.store.hvals("{stoker}:open")]  # after their rank
        messages = quick.store.hmget("{stoker}:messages", leading)
        assert len(leading) >= wanted
        assert sorted(quick.store.lrange(SHELF, 0, -1)) == sorted(messages)
        assert set(quick.store.hkeys("{stoker}:payloads")) == set(leading)


# --- twice


def test_a_message_that_comes_twice_runs_once(quick: Lab, key: str) -> None:
    quick.stage.hold(key)
    asked = [quick.shelved("fold", key) for _ in range(2)]
    message = quick.store.lindex(SHELF, 0)
    joined(quick)
    quick.store.lpush(DEFAULT, message, message)
    quick.stage.hear("begins", key)
    quick.store.lpush(DEFAULT, message)

    def copies_are_dropped() -> bool:
        """Three messages were taken, and one of them is what runs."""
        (stats,), (active,) = asking.stats().values(), asking.active().values()
        return bool(stats["total"].get("fold") == 3 and len(active) == 1)

    asking = quick.app.control.inspect(timeout=10, limit=1)
    quick.until(copies_are_dropped, "its copies are dropped")
    quick.stage.let(key)
    assert {each.get(timeout=WAIT_S) for each in asked} == {f"{key}#1"}
    quick.until_nothing_is_left()
    assert quick.stage.runs(key) == 1


def test_a_known_copy_that_comes_after_the_end_does_not_run(quick: Lab, key: str) -> None:
    leader = quick.shelved("fold", key)
    urgent = quick.task("fold").apply_async((key,), queue=URGENT)
    joined(quick)
    assert [each.get(timeout=WAIT_S) for each in (leader, urgent)] == [f"{key}#1"] * 2
    quick.until_nothing_is_left()
    assert quick.unshelve(DEFAULT) == 1
    quick.until(lambda: not quick.store.llen(DEFAULT) and not held(quick), "the copy is dropped")
    assert quick.stage.runs(key) == 1


# --- flushed


def test_a_flush_of_what_is_queued_leaves_the_key_free(quick: Lab, key: str) -> None:
    quick.shelved("fold", key)
    quick.store.flushdb()
    joined(quick)
    assert quick.task("fold").delay(key).get(timeout=WAIT_S) == f"{key}#1"
    quick.until_nothing_is_left()


@pytest.mark.parametrize("renewed", [False, True])
def test_a_run_outlives_a_flush(quick: Lab, key: str, renewed: bool) -> None:  # noqa: FBT001 - a case
    joined(quick)
    quick.stage.hold(key)
    first = quick.task("fold").delay(key)
    quick.stage.hear("begins", key)
    quick.store.flushdb()
    if renewed:
        quick.until(lambda: quick.store.hexists("{stoker}:runs", first.id), "it has said that it lives")
    second = quick.task("fold").delay(key)
    quick.stage.let(key, "return", "return")
    until_repaired(quick, first, second)
    assert [each.get(timeout=WAIT_S) for each in (first, second)] == [f"{key}#1", f"{key}#2"]


def test_a_message_taken_before_a_flush_runs_after_it(quick: Lab, key: str) -> None:
    joined(quick)
    first = quick.task("slow_to_begin").delay(key)
    quick.stage.hear("taken", key)
    quick.store.flushdb()
    quick.stage.redis.rpush(f"begin:{key}", *range(9))
    assert first.get(timeout=WAIT_S) == f"{key}#1"
    quick.until_nothing_is_left()


# --- cut off and stopped


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_run_ends_well_when_every_connection_is_cut(own_valkey: EmbeddedValkey, key: str, pool: str) -> None:
    with lab(own_valkey, 0, coalescing=SHORT) as cut:
        joined(cut, pool)
        cut.stage.hold(key)
        with cut.plugged():
            asked = [cut.task("fold").delay(key) for _ in range(3)]
        cut.stage.hear("begins", key)
        late = cut.task("fold").delay(key)
        cut.store.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        cut.stage.let(key, *["return"] * 4)
        until_repaired(cut, *asked, late)
        assert {cut.app.AsyncResult(each.id).state for each in (*asked, late)} == {"SUCCESS"}
        assert cut.task("fold").apply_async((f"{key}-next",)).get(timeout=WAIT_S) == f"{key}-next#1"


def test_while_redis_is_gone_asking_fails_and_when_it_is_back_all_goes_on(own_valkey: EmbeddedValkey, key: str) -> None:
    with lab(own_valkey, 0, coalescing=SHORT) as stopped:
        joined(stopped)
        stopped.stage.hold(key)
        running = stopped.task("fold").delay(key)
        stopped.stage.hear("begins", key)
        queued = [stopped.task("fold").delay(key) for _ in range(3)]
        own_valkey.stop()
        for name in (key, f"{key}-other"):
            began = time.monotonic()
            with pytest.raises(OperationalError):
                # Who wants a result waits longer before that, as with any task: Celery subscribes to it first.
                stopped.task("fold").apply_async((name,), task_id=f"refused-{name}", ignore_result=True)
            assert time.monotonic() - began < 30
        own_valkey.start()
        assert stopped.protocol.known([f"refused-{key}", f"refused-{key}-other"]) == [False, False]
        joined(stopped)  # for kombu ends a worker that cannot return what it holds, and a supervisor starts another
        stopped.stage.let(key, *["return"] * 4)
        until_repaired(stopped, running, *queued)
        assert {stopped.app.AsyncResult(each.id).state for each in (running, *queued)} == {"SUCCESS"}


# --- elsewhere in Redis


def test_all_of_it_works_under_a_key_prefix_and_in_another_database(
    coalescing_valkey: EmbeddedValkey, key: str
) -> None:
    with lab(coalescing_valkey, 3, broker_transport_options={"global_keyprefix": "acme:"}) as prefixed:
        joined(prefixed)
        with prefixed.plugged():
            asked = [prefixed.task("fold").apply_async((key,), queue=queue) for queue in (DEFAULT, URGENT, DEFAULT)]
            assert len(prefixed.protocol.followers(asked[0].id)) == 2
        assert {each.get(timeout=WAIT_S) for each in asked} == {f"{key}#1"}
        prefixed.until_nothing_is_left()
        keys = {name for name in prefixed.store.scan_iter() if not name.startswith("celery-task-meta-")}
        assert keys
        assert all(name.startswith("acme:") for name in keys)
