"""Whatever becomes of a run, those who follow it finish: with its end, or with a run of their own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from celery import chain, states
from celery.exceptions import Reject, TaskRevokedError

from scheduler.errors import Refused
from tests.support.coalescing_app import SHELF
from tests.support.coalescing_lab import WAIT_S, Lab


def asked(lab: Lab, name: str, key: str, *verbs: str, count: int = 3, **options: Any) -> list[Any]:
    """So many requests of one run, which will do as these verbs say."""
    lab.stage.hold(key)
    with lab.plugged():
        results = [lab.task(name).apply_async((key,), **options) for _ in range(count)]
    if verbs:
        lab.stage.let(key, *verbs)
    return results


def results(of: list[Any]) -> list[Any]:
    return [each.get(timeout=WAIT_S) for each in of]


def error_of(result: Any) -> Exception:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - which, the test says
        result.get(timeout=WAIT_S)
    return raised.value


# --- errors


def test_an_error_is_everybodys_and_calls_each_ones_errback_once(either: Lab, key: str) -> None:
    mourn = either.task("mourn")
    failed = asked(either, "fold", key, "fail:broken", count=4, link_error=mourn.s())
    assert {repr(error_of(each)) for each in failed} == {"ValueError('broken')"}
    assert all("broken" in each.traceback for each in failed)
    either.until_nothing_is_left()
    mourned = [either.stage.redis.lrange(f"mourned:{each.id}", 0, -1) for each in failed]
    assert mourned == [["ValueError('broken')"]] * 4
    assert either.stage.runs(key) == 1


def test_an_error_ends_each_ones_chain(either: Lab, key: str) -> None:
    fold, note = either.task("fold"), either.task("note")
    either.stage.hold(key)
    with either.plugged():
        chains = [chain(fold.si(key), note.s(key), note.s(key)).apply_async() for _ in range(3)]
    either.stage.let(key, "fail:broken")
    for last in chains:
        assert repr(error_of(last)) == "ValueError('broken')"
        for step in (last.parent, last.parent.parent):
            either.until(lambda step=step: step.state == states.FAILURE, "every step of the chain has failed")
    assert either.stage.redis.llen(f"notes:{key}") == 0


def test_a_follower_whose_chain_cannot_go_on_holds_up_nobody(threads: Lab, key: str) -> None:
    fold = threads.task("fold")
    threads.stage.hold(key)
    with threads.plugged():
        first = fold.delay(key)
        stuck = chain(fold.si(key), fold.si("")).apply_async()
        last = fold.delay(key)
    threads.stage.let(key)
    assert results([first, last]) == [f"{key}#1"] * 2
    assert isinstance(error_of(stuck.parent), Refused | Exception)
    assert stuck.parent.state == states.FAILURE


# --- retries


def test_a_retry_keeps_its_followers_until_the_final_outcome(either: Lab, key: str) -> None:
    assert results(asked(either, "fold", key, "retry:0.1", "retry:0", "return")) == [f"{key}#3"] * 3
    assert either.stage.runs(key) == 3


def test_a_retry_that_does_not_throw_keeps_its_followers_too(threads: Lab, key: str) -> None:
    first, *followers = asked(threads, "fold", key, "retry-and-return:0.1", "return")
    assert results(followers) == [f"{key}#2"] * 2
    assert results([first]) == [f"{key}#1"], "what it returned, as with any task"


def test_a_request_made_while_a_run_waits_to_retry_folds_into_it(threads: Lab, key: str) -> None:
    (first,) = asked(threads, "fold", key, "retry:3", count=1)
    threads.until(lambda: first.state == states.RETRY, "it waits to retry")
    late = threads.task("fold").delay(key)
    assert threads.protocol.followers(first.id)[0].id == late.id
    threads.stage.let(key)
    assert results([first, late]) == [f"{key}#2"] * 2


def test_a_retry_folds_into_a_request_that_came_during_the_run_that_failed(either: Lab, key: str) -> None:
    old = asked(either, "fold", key)
    either.stage.hear("begins", key)
    late = either.task("fold").delay(key)
    either.stage.let(key, "retry:600", "return")
    assert results([*old, late]) == [f"{key}#2"] * 4
    assert either.stage.runs(key) == 2


def test_when_no_retry_is_left_all_fail(either: Lab, key: str) -> None:
    failed = asked(either, "once", key, "retry:0", "retry:0")
    assert {repr(error_of(each)) for each in failed} == {"ValueError('out of retries')"}
    assert either.stage.runs(key) == 2


def test_a_task_that_retries_by_declaration_does_the_same(either: Lab, key: str) -> None:
    assert results(asked(either, "auto", key, "missing:it", "return")) == [f"{key}#2"] * 3
    failed = asked(either, "auto", f"{key}-never", "missing:it", "missing:it", "missing:it")
    assert {repr(error_of(each)) for each in failed} == {"LookupError('it')"}
    assert either.stage.runs(f"{key}-never") == 3


# --- rejected and ignored


def test_a_rejected_run_hands_over_to_its_first_follower(either: Lab, key: str) -> None:
    first, *followers = asked(either, "fold", key, "reject:unwanted", "return")
    assert isinstance(error_of(first), Reject)
    assert results(followers) == [f"{key}#2"] * 2


def test_a_run_returned_to_its_queue_runs_again_and_tells_its_followers_then(either: Lab, key: str) -> None:
    assert results(asked(either, "fold", key, "reject:requeue", "reject:requeue", "return")) == [f"{key}#3"] * 3


def test_an_ignored_run_leaves_nothing_behind(either: Lab, key: str) -> None:
    ignored = asked(either, "fold", key, "ignore")
    either.stage.hear("ends", key)
    either.until_nothing_is_left()
    assert [each.state for each in ignored[1:]] == [states.PENDING] * 2
    assert either.stage.runs(key) == 1


# --- revoked and expired


def revoke(lab: Lab, *results: Any, **how: Any) -> None:
    # With a reply: the worker knows it when this returns.
    assert lab.app.control.revoke([each.id for each in results], reply=True, limit=1, timeout=10, **how)


def test_when_the_leader_is_revoked_its_first_follower_leads_at_once(either: Lab, key: str) -> None:
    with either.plugged():
        first, *followers = [either.task("fold").delay(key) for _ in range(4)]
        revoke(either, first)
    assert results(followers) == [f"{key}#1"] * 3
    assert isinstance(error_of(first), TaskRevokedError)
    assert either.stage.hear("begins", key)["id"] == followers[0].id


def test_a_revoked_follower_ends_with_its_chain_and_the_others_do_not(either: Lab, key: str) -> None:
    fold, note = either.task("fold"), either.task("note")
    with either.plugged():
        first = fold.delay(key)
        left = chain(fold.si(key), note.s(f"{key}-left").set(queue=SHELF)).apply_async()
        stays = chain(fold.si(key), note.s(f"{key}-stays")).apply_async()
        revoke(either, left.parent)
    stays.get(timeout=WAIT_S)
    assert results([first, stays.parent]) == [f"{key}#1"] * 2
    either.until_nothing_is_left()
    assert isinstance(error_of(left.parent), TaskRevokedError)
    assert either.store.llen(SHELF) == 0
    assert left.state == states.PENDING


def test_all_of_them_revoked_leave_nothing_behind(threads: Lab, key: str) -> None:
    with threads.plugged():
        revoked = [threads.task("fold").delay(key) for _ in range(4)]
        revoke(threads, *revoked)
    assert all(isinstance(error_of(each), TaskRevokedError) for each in revoked)
    threads.until_nothing_is_left()
    assert threads.stage.runs(key) == 0


def test_when_a_running_leader_is_terminated_its_followers_are_handed_on(prefork: Lab, key: str) -> None:
    first, *followers = asked(prefork, "fold", key)
    prefork.stage.hear("begins", key)
    late = prefork.task("fold").delay(key)
    revoke(prefork, first, terminate=True, signal="KILL")
    prefork.stage.hear("begins", key)
    prefork.stage.let(key)
    assert results([*followers, late]) == [f"{key}#2"] * 3
    assert isinstance(error_of(first), TaskRevokedError)
    assert prefork.stage.runs(key) == 2


def past() -> datetime:
    return datetime.now(UTC) - timedelta(seconds=1)


def test_when_the_leader_has_expired_its_first_follower_leads(either: Lab, key: str) -> None:
    with either.plugged():
        first = either.task("fold").apply_async((key,), expires=past())
        followers = [either.task("fold").delay(key) for _ in range(2)]
    assert results(followers) == [f"{key}#1"] * 2
    assert isinstance(error_of(first), TaskRevokedError)


def test_a_follower_that_has_expired_is_given_no_result(threads: Lab, key: str) -> None:
    fold = threads.task("fold")
    with threads.plugged():
        first = fold.delay(key)
        late = [fold.apply_async((key,), expires=past()), fold.apply_async((key,), expires=0.001)]
        last = fold.apply_async((key,), expires=600)
    assert results([first, last]) == [f"{key}#1"] * 2
    assert all(isinstance(error_of(each), TaskRevokedError) for each in late)


# --- the process under it


def test_past_its_hard_limit_all_fail_with_it(prefork: Lab, key: str) -> None:
    failed = asked(prefork, "fold", key, time_limit=2)
    assert all(isinstance(error_of(each), TimeLimitExceeded) for each in failed)
    assert prefork.stage.runs(key) == 1


def test_past_its_soft_limit_all_fail_with_it(prefork: Lab, key: str) -> None:
    failed = asked(prefork, "fold", key, soft_time_limit=2)
    assert all(isinstance(error_of(each), SoftTimeLimitExceeded) for each in failed)
    assert prefork.stage.runs(key) == 1


def test_when_a_child_is_lost_its_run_and_its_followers_end(prefork: Lab, key: str) -> None:
    # All of them at once: the pool looks for its dead every five seconds.
    plain, exits, retried, rejected = (f"{key}-{n}" for n in range(4))
    prefork.stage.hold(plain, exits, retried, rejected)
    names = {plain: "fold", exits: "fold", retried: "retried_when_lost", rejected: "rejected_when_lost"}
    with prefork.plugged():
        by_key = {each: [prefork.task(name).delay(each) for _ in range(3)] for each, name in names.items()}
    for each in names:
        prefork.stage.let(each, "exit" if each == exits else "kill", "return")
    lost, goes_on = [by_key[plain], by_key[exits]], by_key[retried] + by_key[rejected]
    for first, *followers in lost:
        assert isinstance(error_of(first), WorkerLostError)
        assert {result.partition("#")[2] for result in results(followers)} == {"2"}, "its first follower has led"
    assert results(goes_on) == [f"{retried}#2"] * 3 + [f"{rejected}#2"] * 3
    assert [prefork.stage.runs(each) for each in (plain, exits, retried, rejected)] == [2] * 4
