"""The whole deficit in one plan, nothing twice, and never a worker more than the cap."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.capacity import CapacityPlan, CapacitySnapshot, demand, plan_capacity

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MANY = 1_000
EMPTY = CapacitySnapshot("duck", idle=0, spawning=0, live=0, demand=0)

counts = st.integers(0, 200)
snapshots = st.builds(
    lambda idle, spawning, others, wanted, cap, room: CapacitySnapshot(
        "duck", idle, spawning, idle + spawning + others, wanted, cap, room
    ),
    counts,
    counts,
    counts,
    counts,
    st.integers(0, 300),
    st.none() | st.integers(-50, 300),
)


def plan(seen: CapacitySnapshot, floor: int, at_most: int = MANY) -> CapacityPlan:
    return plan_capacity(seen, floor, NOW, at_most=at_most)


@pytest.mark.parametrize(
    ("seen", "floor", "create", "deficit", "clipped_by"),
    [
        (EMPTY, 5, 5, 5, None),
        (replace(EMPTY, demand=30), 5, 35, 35, None),
        (replace(EMPTY, demand=25, live=5), 5, 30, 30, None),
        (replace(EMPTY, demand=25, spawning=30, live=35), 5, 0, 0, None),
        (replace(EMPTY, idle=9, live=9), 5, 0, 0, None),
        (replace(EMPTY, demand=30, max_workers=11), 5, 11, 35, "max_workers"),
        (replace(EMPTY, demand=30, max_workers=11, live=20), 5, 0, 35, "max_workers"),
        (replace(EMPTY, demand=30, machine_room=7), 5, 7, 35, "machine_memory"),
        (replace(EMPTY, demand=30, machine_room=-4), 5, 0, 35, "machine_memory"),
        (replace(EMPTY, demand=30, max_workers=9, machine_room=7), 5, 7, 35, "machine_memory"),
        (replace(EMPTY, demand=30, max_workers=35), 5, 35, 35, None),
        (replace(EMPTY, demand=30, draining=True), 5, 0, 0, "draining"),
        (replace(EMPTY, demand=3, backoff_until=NOW + timedelta(seconds=1)), 5, 0, 8, "backoff"),
        (replace(EMPTY, demand=3, backoff_until=NOW), 5, 8, 8, None),
    ],
)
def test_the_plan(seen: CapacitySnapshot, floor: int, create: int, deficit: int, clipped_by: str | None) -> None:
    assert plan(seen, floor) == CapacityPlan("duck", create, deficit, clipped_by)


def test_what_one_tick_cannot_hold_is_said_and_left_to_the_next() -> None:
    assert plan(replace(EMPTY, demand=30), 5, at_most=10) == CapacityPlan("duck", 10, 35, "slots_per_tick")


@given(snapshots, counts)
def test_never_more_than_the_cap_or_the_machine_leaves_room_for(seen: CapacitySnapshot, floor: int) -> None:
    made = plan(seen, floor)
    assert made.create >= 0
    if seen.max_workers:
        assert made.create == 0 or seen.live + made.create <= seen.max_workers
    if seen.machine_room is not None:
        assert made.create <= max(0, seen.machine_room)


@given(snapshots, counts)
def test_the_whole_deficit_in_one_plan_unless_it_says_what_clipped_it(seen: CapacitySnapshot, floor: int) -> None:
    made = plan(seen, floor)
    assert made.deficit == max(0, floor + seen.demand - seen.idle - seen.spawning)
    assert (made.create == made.deficit) == (made.clipped_by is None)


@given(snapshots, counts)
def test_a_plan_carried_out_leaves_nothing_to_plan(seen: CapacitySnapshot, floor: int) -> None:
    made = plan(replace(seen, machine_room=None), floor)
    after = replace(seen, spawning=seen.spawning + made.create, live=seen.live + made.create, machine_room=None)
    assert plan(after, floor).create == 0, "what is on its way was counted again"


@given(st.lists(counts, min_size=1, max_size=20), counts)
def test_the_floor_never_compounds(bursts: list[int], floor: int) -> None:
    idle = 0
    for burst in bursts:
        made = plan(replace(EMPTY, idle=idle, live=idle, demand=burst), floor)
        idle += made.create
        idle -= min(burst, idle)
        assert idle <= max(floor, MANY)
        if made.create:
            assert idle == floor, "a burst left more warm than the floor"


@given(counts, counts)
def test_zero_means_zero(idle: int, spawning: int) -> None:
    assert plan(replace(EMPTY, idle=idle, spawning=spawning, live=idle + spawning), 0).create == 0


@given(snapshots, counts)
def test_a_drained_profile_gets_no_worker(seen: CapacitySnapshot, floor: int) -> None:
    assert plan(replace(seen, draining=True), floor).create == 0


def test_a_tenant_at_its_cap_is_no_demand() -> None:
    waiting = {"acme": 3, "globex": 2, "initech": 4}
    assert demand(waiting, {"acme": 0, "globex": None, "initech": 1}) == 3
    assert demand(waiting, {"acme": -2}) == 6
    assert demand({}, {}) == 0
