"""The table of transitions is a life: one beginning, two ends, and no way back to neutral."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.states import CLAIMED, LIVE, NEUTRAL, TRANSITIONS, WorkerState, may_become
from scheduler.store.migrate import functions
from scheduler.store.tables import workers


def test_every_state_has_its_line() -> None:
    assert set(TRANSITIONS) == set(WorkerState)


def test_only_retired_and_lost_end_a_life() -> None:
    assert set(WorkerState) - LIVE == {WorkerState.RETIRED, WorkerState.LOST}


@pytest.mark.parametrize("state", sorted(LIVE))
def test_any_live_worker_may_be_lost(state: WorkerState) -> None:
    assert may_become(state, WorkerState.LOST)


@pytest.mark.parametrize(("state", "after"), list(product(sorted(set(WorkerState) - NEUTRAL), sorted(NEUTRAL))))
def test_after_a_tenant_there_is_no_way_back_to_neutral(state: WorkerState, after: WorkerState) -> None:
    assert not may_become(state, after)


@given(st.data())
def test_a_life_ends_and_meets_its_tenant_before_serving(data: st.DataObject) -> None:
    life = [WorkerState.SPAWNING]
    while TRANSITIONS[life[-1]] and len(life) < 40:
        life.append(data.draw(st.sampled_from(sorted(TRANSITIONS[life[-1]]))))
    for before, after in pairwise(life):
        assert after is not WorkerState.ACTIVE or before is WorkerState.ACTIVATING
        assert before is not WorkerState.DRAINING or after not in LIVE
    if any(state in CLAIMED for state in life):
        first = next(i for i, state in enumerate(life) if state in CLAIMED)
        assert not NEUTRAL & set(life[first:])


def test_the_trigger_in_postgresql_holds_the_same_table() -> None:
    guard = next(text for text in functions() if "worker_state_follows_the_table" in text)
    allowed = guard.partition("not in (")[2]
    for a, b in product(WorkerState, WorkerState):
        assert (f"('{a}', '{b}')" in allowed) == may_become(a, b), (a, b)


@pytest.mark.parametrize(
    ("name", "states"),
    [
        ("state_known", set(WorkerState)),
        ("neutral_has_no_tenant", NEUTRAL),
        ("claimed_has_tenant", CLAIMED),
        ("claimed_has_lease", CLAIMED),
        ("ended_is_not_live", LIVE),
    ],
)
def test_the_constraints_name_the_same_states(name: str, states: set[WorkerState]) -> None:
    written = next(str(c.sqltext) for c in workers.constraints if c.name == f"ck_workers_{name}")  # type: ignore[attr-defined]
    assert {state for state in WorkerState if f"'{state}'" in written} == states
