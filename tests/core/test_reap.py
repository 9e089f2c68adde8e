"""Who is let go: only the stale, only above the floor, the newest node first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.reap import IdleWorker, plan_reap

NOW = datetime(2030, 1, 1, tzinfo=UTC)
TIMEOUT = timedelta(minutes=5)


def idle(number: int, *, minutes: float = 10, node_hours: float | None = 1, closed: bool = False) -> IdleWorker:
    seen = None if node_hours is None else NOW - timedelta(hours=node_hours)
    return IdleWorker(number, NOW - timedelta(minutes=minutes), seen, closed)


fleets = st.lists(
    st.builds(
        idle,
        st.just(0),
        minutes=st.floats(0, 20),
        node_hours=st.none() | st.floats(0, 48),
        closed=st.integers(0, 3).map(lambda n: n == 0),
    ),
    max_size=30,
).map(lambda workers: [replace(worker, id=number) for number, worker in enumerate(workers, 1)])


def test_unknown_nodes_first_then_the_newest() -> None:
    fleet = [idle(1, node_hours=9), idle(2, node_hours=None), idle(3, node_hours=1), idle(4, node_hours=3)]
    assert plan_reap(fleet, 0, TIMEOUT, NOW, at_most=9) == [2, 3, 4, 1]


def test_on_one_node_the_longest_idle_first() -> None:
    fleet = [idle(1, minutes=6), idle(2, minutes=9), idle(3, minutes=7)]
    assert plan_reap(fleet, 0, TIMEOUT, NOW, at_most=9) == [2, 3, 1]


def test_exactly_the_timeout_is_not_longer_than_it() -> None:
    assert plan_reap([idle(1, minutes=5)], 0, TIMEOUT, NOW, at_most=9) == []


def test_the_fresh_count_for_the_floor() -> None:
    # Three stale above a floor of two that two fresh ones hold: all three may go.
    fleet = [idle(1), idle(2), idle(3), idle(4, minutes=0), idle(5, minutes=0)]
    assert len(plan_reap(fleet, 2, TIMEOUT, NOW, at_most=9)) == 3


def test_those_of_closed_nodes_go_first_but_not_before_others_stand_in_for_them() -> None:
    shut = [idle(n, node_hours=9, closed=True) for n in (1, 2, 3)]
    assert plan_reap(shut, 3, TIMEOUT, NOW, at_most=9) == []
    fresh = [idle(n, minutes=0) for n in (4, 5)]
    assert plan_reap([*shut, *fresh], 3, TIMEOUT, NOW, at_most=9) == [1, 2]
    stale = [idle(n) for n in (4, 5, 6, 7)]
    assert plan_reap([*stale, *shut], 3, TIMEOUT, NOW, at_most=9) == [1, 2, 3, 4]
    assert plan_reap([*stale, *shut], 3, TIMEOUT, NOW, at_most=2) == [1, 2]


def test_the_closed_hold_no_floor_for_the_open_to_go_below() -> None:
    young_and_shut = [idle(n, minutes=0, closed=True) for n in (1, 2, 3)]
    assert plan_reap([*young_and_shut, idle(4), idle(5), idle(6)], 3, TIMEOUT, NOW, at_most=9) == []


@given(fleets, st.integers(0, 40), st.integers(1, 40))
def test_never_below_the_floor_never_the_fresh_never_too_many(
    fleet: list[IdleWorker], floor: int, at_most: int
) -> None:
    victims = plan_reap(fleet, floor, TIMEOUT, NOW, at_most=at_most)
    by_id = {worker.id: worker for worker in fleet}
    assert len(set(victims)) == len(victims) <= at_most
    assert not victims or len(fleet) - len(victims) >= floor
    offered = sum(not worker.closed for worker in fleet)
    gone = sum(not by_id[victim].closed for victim in victims)
    assert not gone or offered - gone >= floor
    assert all(NOW - by_id[victim].idle_since > TIMEOUT for victim in victims)


@given(fleets, st.integers(0, 40))
def test_who_stays_of_the_stale_is_on_no_newer_node_than_who_goes(fleet: list[IdleWorker], floor: int) -> None:
    victims = set(plan_reap(fleet, floor, TIMEOUT, NOW, at_most=40))
    unknown = NOW + timedelta(days=1)  # counts as the newest of all
    for closed in (False, True):
        stale = [worker for worker in fleet if NOW - worker.idle_since > TIMEOUT and worker.closed is closed]
        goes = [worker.node_first_seen or unknown for worker in stale if worker.id in victims]
        stays = [worker.node_first_seen or unknown for worker in stale if worker.id not in victims]
        assert not goes or not stays or max(stays) <= min(goes)
