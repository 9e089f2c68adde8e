"""What an operation does step by step, and how its steps are named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.network_plans import KINDS, Spread, Target, check_kind, plan_operation
from scheduler.core.operations import ENDED, TRANSITIONS, OperationState, Place, Step, may_become, place, plan, task_id
from scheduler.errors import Refused

BLUE = Spread("blue", ("n1", "n2", "n3"), "n2")
STEPS = st.builds(Step, st.sampled_from("abc"), st.fixed_dictionaries({"node": st.sampled_from("xyz")}))


@given(st.lists(STEPS, max_size=12))
def test_equal_steps_are_one_and_the_last_of_them_stays(asked: list[Step]) -> None:
    made = plan(asked)
    assert len(made.steps) + made.folded == len(asked)
    assert sorted([*made.spared, *(step.task for step in made.steps)]) == sorted(step.task for step in asked)
    assert {str(step) for step in made.steps} == {str(step) for step in asked}
    last = {str(step): position for position, step in enumerate(asked)}
    assert [str(step) for step in made.steps] == sorted(last, key=last.__getitem__)


@given(st.integers(1, 2**60), st.integers(0, 99), st.text("0123456789abcdef", min_size=8, max_size=8))
def test_a_steps_celery_id_names_it(operation: int, position: int, token: str) -> None:
    assert place(task_id(Place(operation, position, token))) == (operation, position, token)


@pytest.mark.parametrize("text", ["", "op1.2", "op1.2-xyz", "opx.2-00000000", "op1.2-00000000 ", "op1.2-000000000"])
def test_another_id_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="op<operation>"):
        place(text)


def test_what_has_ended_becomes_nothing_more_and_all_that_lives_can_end() -> None:
    assert {OperationState.SUCCEEDED, OperationState.FAILED, OperationState.CANCELLED} == ENDED
    for state in set(OperationState) - ENDED:
        assert may_become(state, OperationState.CANCELLED)
    assert not any(TRANSITIONS[state] for state in ENDED)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_plan_whose_steps_each_name_their_node(kind: str) -> None:
    steps = plan_operation(kind, Target.read("blue/web1"), BLUE, "n3").steps
    assert steps
    assert {step.node for step in steps} <= set(BLUE.nodes)
    assert all(step.arguments["node"] == step.node and step.arguments["network"] == "blue" for step in steps)
    assert all(value for step in steps for value in step.arguments.values()), "an empty column would be refused later"


def test_what_operations_share_comes_first_and_in_one_order() -> None:
    plans = [plan_operation("interface.plug", Target("blue", f"web{n}"), BLUE, f"n{n}").steps for n in (1, 2, 3)]
    assert len({steps[:-1] for steps in map(repr_of, plans)}) == 1
    assert len({steps[-1] for steps in map(repr_of, plans)}) == 3


def repr_of(steps: tuple[Step, ...]) -> tuple[str, ...]:
    return tuple(map(repr, steps))


def test_an_unknown_kind_is_refused_with_its_neighbour() -> None:
    with pytest.raises(Refused, match=r"did you mean 'network\.delete'"):
        check_kind("network.delte")


def test_an_interface_that_is_nowhere_has_no_plan() -> None:
    with pytest.raises(Refused, match="interface"):
        plan_operation("interface.plug", Target("blue", "nobody"), BLUE)
