"""What each kind of operation on networks does, step by step. Every step converges, so what it finds done it leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from config.names import (
    ADD_FLOATING_STEP,
    CREATE_NETWORK_STEP,
    DELETE_NETWORK_STEP,
    ENSURE_MESH_STEP,
    FORGET_NETWORK_STEP,
    PLUG_STEP,
    REMOVE_FLOATING_STEP,
    UNPLUG_STEP,
    UPDATE_DNSMASQ_STEP,
)
from scheduler.core import netnames
from scheduler.core.operations import Plan, Step, plan
from scheduler.errors import Refused, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Spread:
    """Where a network is: what its operations are planned from."""

    network: str
    nodes: tuple[str, ...]
    gateway_node: str
    given_up: tuple[str, ...] = ()  # floating addresses that stand for nobody from now on


@dataclass(frozen=True, slots=True)
class Target:
    """What an operation is about: `network`, `network/interface` or `network/address`."""

    network: str
    part: str = ""

    @classmethod
    def read(cls, text: str) -> Target:
        """From its text."""
        network, _, part = text.partition("/")
        return cls(network, part)

    def __str__(self) -> str:
        return f"{self.network}/{self.part}" if self.part else self.network


def _create(spread: Spread, node: str, part: str) -> Iterator[Step]:
    for place in spread.nodes:
        yield _step(CREATE_NETWORK_STEP, spread, place)
    yield from _refresh(spread, node, part)


def _delete(spread: Spread, node: str, part: str) -> Iterator[Step]:
    del node, part
    for place in spread.nodes:
        yield _step(DELETE_NETWORK_STEP, spread, place)
    yield _step(FORGET_NETWORK_STEP, spread, spread.gateway_node)


def _refresh(spread: Spread, node: str, part: str) -> Iterator[Step]:
    # What all operations on a network share comes first, in one order: they fold from the first step on, are released
    # together, and fold again in the next. What is an operation's own comes last.
    del node, part
    yield _step(UPDATE_DNSMASQ_STEP, spread, spread.gateway_node)
    for place in spread.nodes:
        yield _step(ENSURE_MESH_STEP, spread, place)


def _plug(spread: Spread, node: str, part: str) -> Iterator[Step]:
    yield from _refresh(spread, node, part)
    yield _step(PLUG_STEP, spread, node, interface=part)


def _unplug(spread: Spread, node: str, part: str) -> Iterator[Step]:
    yield from _refresh(spread, node, part)
    for address in spread.given_up:
        yield _step(REMOVE_FLOATING_STEP, spread, spread.gateway_node, address=address)
    yield _step(UNPLUG_STEP, spread, node, interface=part)


def _add_floating(spread: Spread, node: str, part: str) -> Iterator[Step]:
    del node
    yield _step(ADD_FLOATING_STEP, spread, spread.gateway_node, address=part)


def _remove_floating(spread: Spread, node: str, part: str) -> Iterator[Step]:
    del node
    yield _step(REMOVE_FLOATING_STEP, spread, spread.gateway_node, address=part)


_KINDS: Final[dict[str, Callable[[Spread, str, str], Iterator[Step]]]] = {
    "network.create": _create,
    "network.delete": _delete,
    "network.refresh": _refresh,
    "interface.plug": _plug,
    "interface.unplug": _unplug,
    "floating.add": _add_floating,
    "floating.remove": _remove_floating,
}
KINDS: Final = tuple(_KINDS)
_ON_A_NODE: Final = frozenset({"interface.plug", "interface.unplug"})
# They make so that something is gone.
_GOING: Final = {"network.delete": "delete", "interface.unplug": "unplug", "floating.remove": "floating remove"}
_COMING: Final = {"interface.plug": "plug", "floating.add": "floating add"}
# What a target names beside its network, by the family of its kind, and how that has to look.
_PARTS: Final[dict[str, Callable[[str], object]]] = {
    "interface": lambda part: netnames.name("interface", part),
    "floating": netnames.address,
}


def check_kind(kind: str) -> None:
    """Refuse a kind of operation that there is not."""
    if kind not in _KINDS:
        raise unknown("operation", kind, KINDS, "name one of these")


def read_target(kind: str, text: str) -> Target:
    """What an operation of this kind is about. Refused: the kind is unknown, or the target is not of its form."""
    check_kind(kind)
    target = Target.read(text)
    what = {"interface": "interface name", "floating": "address"}.get(family(kind), "")
    if bool(what) != bool(target.part):
        form = f"<network>/<{what}>" if what else "<network>"
        raise Refused(f"target of {kind}", expected=form, got=repr(text), remedy="write it so")
    netnames.name("network", target.network)
    if what:
        _PARTS[family(kind)](target.part)
    return target


def family(kind: str) -> str:
    """What operations of this kind are about: network, interface or floating."""
    return kind.partition(".")[0]


def is_going(kind: str) -> bool:
    """Whether an operation of this kind makes that something is gone."""
    return kind in _GOING


def check_wanted(kind: str, target: Target, *, wanted: bool) -> None:
    """Refuse an operation that would find nothing to do: the gone is still wanted, or nobody wants what is to come."""
    if wanted == is_going(kind):
        raise Refused(
            f"{kind} of {target}",
            expected="what nobody wants any more" if wanted else "what somebody wants",
            got="it is wanted" if wanted else "it is not",
            remedy=f"stoker network {_GOING.get(kind) or _COMING.get(kind, 'create')} changes what is wanted, and submits this",
        )


def plan_operation(kind: str, target: Target, spread: Spread, node: str = "") -> Plan:
    """The steps of an operation; `node` is where its interface is, for kinds that have one."""
    check_kind(kind)
    if kind in _ON_A_NODE and not node:
        raise Refused(f"{kind} of {target}", expected="an interface of that network", remedy="plug it first")
    return plan(_KINDS[kind](spread, node, target.part))


def _step(task: str, spread: Spread, node: str, **more: str) -> Step:
    return Step(task, {"network": spread.network, "node": node, **more}, node)
