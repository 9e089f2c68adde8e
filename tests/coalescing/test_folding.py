"""Requests for one effect share one run, and each ends as if it had run itself."""

from __future__ import annotations

import threading
import uuid

import pytest
from celery import chain, chord, group

from scheduler.errors import Refused
from tests.support.coalescing_app import SHELF
from tests.support.coalescing_lab import WAIT_S, Lab


def test_requests_made_while_one_is_queued_share_its_run_and_its_result(either: Lab, key: str) -> None:
    with either.plugged():
        asked = [either.task("fold").delay(key, note=number) for number in range(50)]
    assert {each.get(timeout=WAIT_S) for each in asked} == {f"{key}#1"}
    assert either.stage.runs(key) == 1


def test_a_request_made_while_a_run_is_under_way_leads_its_own(either: Lab, key: str) -> None:
    either.stage.hold(key)
    first = either.task("fold").delay(key)
    either.stage.hear("begins", key)
    late = [either.task("fold").delay(key) for _ in range(3)]
    either.stage.let(key, "return", "return")
    assert first.get(timeout=WAIT_S) == f"{key}#1"
    assert [each.get(timeout=WAIT_S) for each in late] == [f"{key}#2"] * 3
    assert either.stage.runs(key) == 2


def test_a_hundred_chains_share_the_runs_of_their_middle_steps_and_each_ends_with_its_own_last(
    either: Lab, key: str
) -> None:
    echo, fold, other = either.task("echo"), either.task("fold"), f"{key}-other"
    with either.plugged():  # until all are there: else a worker that is quicker than this loop has nothing to fold
        chains = [chain(echo.si(n), fold.si(key), fold.si(other, note=n), echo.s(n)).apply_async() for n in range(100)]
    ended = [each.get(timeout=60) for each in chains]
    assert [own for _, own in ended] == list(range(100))
    assert all(result.startswith(f"{other}#") for result, _ in ended)
    assert all(each.parent.parent.get(timeout=WAIT_S).startswith(f"{key}#") for each in chains)
    assert 1 <= either.stage.runs(key) <= 25
    assert 1 <= either.stage.runs(other) <= 25


def test_what_the_store_counts_is_what_was_asked_and_what_ran(threads: Lab, key: str) -> None:
    before = threads.protocol.counts()
    with threads.plugged():
        asked = [threads.task("fold").delay(key) for _ in range(20)]
    for each in asked:
        each.get(timeout=WAIT_S)
    threads.until_nothing_is_left()
    after = threads.protocol.counts()
    grown = {name: after.get(name, 0) - before.get(name, 0) for name in ("led", "folded", "begun", "ended")}
    assert grown == {"led": 1, "folded": 19, "begun": 1, "ended": 1}
    assert threads.stage.runs(key) == 1


def test_a_group_of_folded_members_has_all_their_results(either: Lab, key: str) -> None:
    with either.plugged():
        members = group(*(either.task("fold").si(key) for _ in range(5)), either.task("echo").si(1)).apply_async()
    assert members.get(timeout=WAIT_S) == [f"{key}#1"] * 5 + [[1]]


def test_a_chord_over_folded_members_calls_its_body_with_all_their_results(either: Lab, key: str) -> None:
    fold, other = either.task("fold"), f"{key}-other"
    with either.plugged():
        header = [fold.si(key), fold.si(other), fold.si(key), fold.si(key)]
        both = [chord(header)(either.task("echo").s(n)) for n in range(2)]
    told = [f"{key}#1", f"{other}#1", f"{key}#1", f"{key}#1"]
    assert [each.get(timeout=WAIT_S) for each in both] == [[told, 0], [told, 1]]


def test_callbacks_of_followers_are_called_with_the_result_and_are_their_children(either: Lab, key: str) -> None:
    note = either.task("note")
    with either.plugged():
        asked = [
            either.task("fold").apply_async((key,), link=[note.s(f"{key}-{n}"), note.s(f"{key}-{n}")]) for n in range(3)
        ]
    for each in asked:
        each.get(timeout=WAIT_S)
    for name in (f"notes:{key}-{n}" for n in range(3)):
        either.until(lambda name=name: either.stage.redis.llen(name) == 2, f"both callbacks of {name}")
        assert set(either.stage.redis.lrange(name, 0, -1)) == {f"{key}#1"}
    assert [len(each.children) for each in asked[1:]] == [2, 2]
    assert len(asked[0].children) == 1, "Celery's own: its callbacks as one group, and nobody else's"


def test_who_ignores_its_result_stores_none_and_those_beside_it_do(threads: Lab, key: str) -> None:
    fold = threads.task("fold")
    with threads.plugged():
        ignored = [fold.apply_async((key,), ignore_result=True) for _ in range(2)]
        wanted = fold.apply_async((key,), ignore_result=False)
    assert wanted.get(timeout=WAIT_S) == f"{key}#1"
    threads.until_nothing_is_left()
    assert [threads.store.get(f"celery-task-meta-{each.id}") for each in ignored] == [None, None]


def test_a_task_that_ignores_results_stores_none_for_anybody(threads: Lab, key: str) -> None:
    with threads.plugged():
        asked = [threads.task("quiet").delay(key) for _ in range(3)]
    threads.stage.hear("ends", key)
    threads.until_nothing_is_left()
    assert [threads.store.get(f"celery-task-meta-{each.id}") for each in asked] == [None] * 3


def test_a_request_that_is_not_due_holds_nobody_up(threads: Lab, key: str) -> None:
    later = threads.task("fold").apply_async((key,), countdown=4)
    assert threads.task("fold").delay(key).get(timeout=WAIT_S) == f"{key}#1"
    assert not later.ready()
    assert later.get(timeout=WAIT_S) == f"{key}#2"


def test_a_request_that_is_due_follows_who_is_queued_then(threads: Lab, key: str) -> None:
    threads.stage.hold(key)
    threads.task("fold").delay(key)
    threads.stage.hear("begins", key)
    parked = threads.task("fold").delay(key)
    later = threads.task("fold").apply_async((key,), countdown=0.1)
    threads.until(lambda: len(threads.protocol.followers(parked.id)) == 1, "the one that is due follows")
    threads.stage.let(key, "return", "return")
    assert (parked.get(timeout=WAIT_S), later.get(timeout=WAIT_S)) == (f"{key}#2", f"{key}#2")
    assert threads.stage.runs(key) == 2


def test_a_message_published_by_name_alone_folds_when_a_worker_takes_it(threads: Lab, key: str) -> None:
    threads.stage.hold(key)
    threads.task("fold").delay(key)
    threads.stage.hear("begins", key)
    parked = threads.task("fold").delay(key)
    by_name = [threads.app.send_task("fold", (key,)) for _ in range(3)]
    threads.until(lambda: len(threads.protocol.followers(parked.id)) == 3, "all that were sent by name follow")
    threads.stage.let(key, "return", "return")
    assert {each.get(timeout=WAIT_S) for each in [parked, *by_name]} == {f"{key}#2"}


def test_spellings_of_one_thing_are_one_key_and_different_things_are_not(threads: Lab) -> None:
    one = uuid.uuid4()
    same = [threads.shelved("fold", spelled) for spelled in (str(one), one.hex, str(one).upper(), one)]
    try:
        assert len(threads.protocol.followers(same[0].id)) == 3
        others = [threads.shelved("fold", value) for value in (1, "1")]
        assert [threads.protocol.followers(each.id) for each in others] == [(), ()]
    finally:
        threads.unshelve("background")
    for each in [*same, *others]:
        each.get(timeout=WAIT_S)


@pytest.mark.parametrize("bad", ["", 1.5, {1: 2}, ["a", ""]])
@pytest.mark.parametrize("when", [{}, {"countdown": 60}])
def test_a_value_that_cannot_be_a_key_is_refused_before_anything_is_published(
    threads: Lab, bad: object, when: dict[str, int]
) -> None:
    with pytest.raises(Refused, match="argument 'key' cannot be part of a key"):
        threads.task("fold").apply_async((bad,), queue=SHELF, **when)
    with pytest.raises(Refused):
        threads.task("fold").apply_async((object(),), queue=SHELF, **when)
    assert threads.store.llen(SHELF) == 0


def test_arguments_that_do_not_fit_are_refused_as_for_any_task(threads: Lab, key: str) -> None:
    with pytest.raises(TypeError):
        threads.task("fold").delay(key, nonsense=1)
    with pytest.raises(TypeError):
        threads.task("fold").delay()


def test_a_direct_call_runs_here_and_now(threads: Lab, key: str) -> None:
    before = threads.protocol.counts()
    assert threads.task("fold")(key) == f"{key}#1"
    assert threads.task("fold").apply((key,)).get() == f"{key}#2"
    assert threads.protocol.counts() == before


def test_a_task_called_by_its_own_run_is_a_function(either: Lab, key: str) -> None:
    inner = f"{key}-inner"
    either.stage.hold(key)
    either.stage.let(key, f"call:{inner}")
    with either.plugged():
        asked = [either.task("fold").delay(key) for _ in range(2)]
    assert [each.get(timeout=WAIT_S) for each in asked] == [f"{key}#1 and {inner}#1"] * 2


def test_eager_tasks_run_at_once_and_publish_nothing(threads: Lab, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(threads.app.conf, "task_always_eager", True)  # noqa: FBT003 - a value
    before = threads.protocol.counts()
    assert [threads.task("fold").delay(key).get() for _ in range(2)] == [f"{key}#1", f"{key}#2"]
    assert threads.protocol.counts() == before


def test_a_connection_or_a_producer_of_the_callers_own_is_used(threads: Lab, key: str) -> None:
    fold = threads.task("fold")
    with threads.app.connection_for_write() as connection, threads.plugged():
        asked = [fold.apply_async((key,), connection=connection) for _ in range(2)]
        asked.append(fold.apply_async((key,), producer=threads.app.amqp.Producer(connection)))
    assert {each.get(timeout=WAIT_S) for each in asked} == {f"{key}#1"}


def test_threads_that_ask_at_once_lead_one_run(threads: Lab, key: str) -> None:
    asked = []
    gate = threading.Barrier(16)

    def ask() -> None:
        gate.wait()
        asked.append(threads.task("fold").delay(key))

    crowd = [threading.Thread(target=ask) for _ in range(16)]
    with threads.plugged():
        for each in crowd:
            each.start()
        for each in crowd:
            each.join()
    assert {each.get(timeout=WAIT_S) for each in asked} == {f"{key}#1"}
    assert len(asked) == 16
