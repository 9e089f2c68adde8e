"""What an operation is about is checked before its network is looked at; what it finds nothing to do for, it refuses."""

from __future__ import annotations

import pytest

from config.names import REMOVE_FLOATING_STEP, UNPLUG_STEP, UPDATE_DNSMASQ_STEP
from scheduler.core.network_plans import KINDS, Spread, Target, check_wanted, is_going, plan_operation, read_target
from scheduler.errors import Refused

SPREAD = Spread("blue", ("n1", "n2"), "n1")


@pytest.mark.parametrize(
    ("kind", "target", "said"),
    [
        ("network.refesh", "blue", "did you mean 'network.refresh'?"),
        ("network.refresh", "blue/web1", "<network>"),
        ("network.refresh", "", "network name"),
        ("network.refresh", "../blue", "<network>"),
        ("network.refresh", "$(reboot)", "network name"),
        ("network.refresh", "b" * 64, "1 to 63"),
        ("interface.plug", "blue", "<network>/<interface name>"),
        ("interface.plug", "blue/", "<network>/<interface name>"),
        ("interface.plug", "blue/web1/eth0", "interface name"),
        ("interface.plug", "blue/web\0", "interface name"),
        ("floating.add", "blue", "<network>/<address>"),
        ("floating.add", "blue/10.99.0.300", "IPv4 address"),
    ],
)
def test_a_target_that_is_not_of_its_kind_is_refused(kind: str, target: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        read_target(kind, target)
    assert said in str(refused.value)


@pytest.mark.parametrize("text", ["blue", "blue/web1"])
def test_a_target_is_written_as_it_is_read(text: str) -> None:
    kind = "interface.plug" if "/" in text else "network.refresh"
    assert str(read_target(kind, text)) == text


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_wanted_otherwise_leaves_nothing_to_do(kind: str) -> None:
    check_wanted(kind, Target("blue"), wanted=not is_going(kind))
    with pytest.raises(Refused, match="stoker network"):
        check_wanted(kind, Target("blue"), wanted=is_going(kind))


def test_who_is_unplugged_leaves_no_floating_address_behind() -> None:
    found = plan_operation("interface.unplug", Target("blue", "web1"), SPREAD, "n2")
    assert REMOVE_FLOATING_STEP not in {step.task for step in found.steps}
    gone = Spread("blue", ("n1", "n2"), "n1", given_up=("10.99.0.50",))
    steps = plan_operation("interface.unplug", Target("blue", "web1"), gone, "n2").steps
    (removal,) = [step for step in steps if step.task == REMOVE_FLOATING_STEP]
    assert (removal.node, removal.arguments["address"]) == ("n1", "10.99.0.50")
    assert (steps[0].task, steps[-1].task) == (UPDATE_DNSMASQ_STEP, UNPLUG_STEP)
