"""Runs of one lane exclude each other, whoever waits for a lane holds no slot, and the urgent are first."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.coalescing_app import DEFAULT, URGENT
from tests.support.coalescing_lab import WAIT_S, Lab


def overlaps(lab: Lab, *keys: str) -> int:
    """How often one of them began while another ran."""
    running, found = 0, 0
    for said in lab.stage.history(*keys):
        running += {"begins": 1, "ends": -1}.get(said["event"], 0)
        found += said["event"] == "begins" and running > 1
    return found


def order(lab: Lab, *keys: str) -> list[str]:
    return [said["key"] for said in lab.stage.history(*keys) if said["event"] == "begins"]


def parked(lab: Lab) -> int:
    return int(lab.store.zcard(f"{lab.prefix}{{stoker}}:parked"))


def test_two_keys_of_one_lane_never_overlap(either: Lab, key: str) -> None:
    lanes = {f"{key}-lane{n}": [f"{key}-{n}-{m}" for m in range(3)] for n in range(2)}
    asks = [(each, lane) for lane, keys in lanes.items() for each in keys] * 8
    with ThreadPoolExecutor(8) as threads:
        asked = list(threads.map(lambda ask: either.task("laned").delay(*ask), asks))
    for each in asked:
        each.get(timeout=WAIT_S)
    for keys in lanes.values():
        assert len(order(either, *keys)) >= 3
        assert overlaps(either, *keys) == 0


def test_two_runs_of_one_key_never_overlap(either: Lab, key: str) -> None:
    asked = []
    for _ in range(30):
        asked.append(either.task("fold").delay(key))
        if len(asked) % 5 == 0:
            asked[-1].get(timeout=WAIT_S)
    for each in asked:
        each.get(timeout=WAIT_S)
    assert 6 <= either.stage.runs(key) <= 30
    assert overlaps(either, key) == 0


def test_who_waits_for_a_lane_holds_no_slot_and_other_lanes_go_on(either: Lab, key: str) -> None:
    slots = either.workers[0].slots
    keys = [f"{key}-{n}" for n in range(2 * slots)]
    either.stage.hold(keys[0])
    first = either.task("laned").delay(keys[0], key)
    either.stage.hear("begins", keys[0])
    waiting = [either.task("laned").delay(each, key) for each in keys[1:]]
    either.until(lambda: parked(either) == len(waiting), "all others are parked")
    elsewhere = [either.task("laned").delay(f"{key}-other", f"{key}-lane{n}") for n in range(slots)]
    assert all(each.get(timeout=WAIT_S) for each in elsewhere)
    assert order(either, *keys) == keys[:1]
    either.stage.let(keys[0])
    for each in (first, *waiting):
        each.get(timeout=WAIT_S)
    assert order(either, *keys) == keys, "the oldest first"
    assert overlaps(either, *keys) == 0


def test_a_lane_is_handed_on_to_the_most_urgent_and_then_to_the_oldest(either: Lab, key: str) -> None:
    first, second, third, urgent = keys = [f"{key}-{n}" for n in range(4)]
    either.stage.hold(first)
    asked = [either.task("laned").delay(first, key)]
    either.stage.hear("begins", first)
    for each, queue in ((second, DEFAULT), (third, DEFAULT), (urgent, URGENT)):
        asked.append(either.task("laned").apply_async((each, key), queue=queue))
        either.until(lambda: parked(either) == len(asked) - 1, "it is parked")
    either.stage.let(first)
    for each in asked:
        each.get(timeout=WAIT_S)
    assert order(either, *keys) == [first, urgent, second, third]


def test_runs_without_a_lane_overlap(either: Lab, key: str) -> None:
    either.stage.hold(key)
    first = either.task("free").delay(key)
    either.stage.hear("begins", key)
    second = either.task("free").delay(key)
    either.stage.hear("begins", key)
    either.stage.let(key, "return", "return")
    assert sorted(each.get(timeout=WAIT_S) for each in (first, second)) == [f"{key}#1", f"{key}#2"]
    assert overlaps(either, key) == 1


@pytest.mark.parametrize("beside", [1, 2])
def test_nothing_folds_across_a_barrier(either: Lab, key: str, beside: int) -> None:
    update, barrier = f"{key}-update", f"{key}-barrier"
    names = ["laned"] * beside + ["barrier"] + ["laned"] * beside
    with either.plugged():
        asked = [either.task(name).delay(barrier if name == "barrier" else update, key) for name in names]
    ended = [each.get(timeout=WAIT_S) for each in asked]
    assert Counter(order(either, update, barrier)) == {update: 2, barrier: 1}
    before, after = ended[:beside], ended[beside + 1 :]
    assert len(set(before)) == len(set(after)) == 1
    assert set(before) != set(after)
    assert overlaps(either, update, barrier) == 0


def test_an_urgent_follower_takes_its_leader_past_a_backlog_and_it_runs_once(either: Lab, key: str) -> None:
    backlog = 500
    with either.plugged():
        with either.app.producer_or_acquire() as producer:
            for _ in range(backlog):
                either.task("note").apply_async(("", key), producer=producer, ignore_result=True)
        leader = either.task("fold").delay(key)
        follower = either.task("fold").apply_async((key,), queue=URGENT)
        assert either.protocol.followers(leader.id)[0].id == follower.id
    assert [each.get(timeout=WAIT_S) for each in (leader, follower)] == [f"{key}#1"] * 2
    assert either.stage.hear("begins", key)["noted"] < backlog // 4, "it did not wait for the backlog"
    either.until(lambda: either.stage.redis.llen(f"notes:{key}") == backlog, "the backlog is worked off")
    either.until(lambda: not either.store.exists(DEFAULT, "unacked"), "and what was lifted is dropped where it lay")
    assert either.stage.runs(key) == 1
