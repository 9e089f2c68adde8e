"""Two hundred operations of every kind on twenty networks, from several clients at once, in every class of queue.

What each client does is drawn beforehand from a seed. Interfaces have one owner; networks but for a few belong to all, and a
few are crowded, so that operations of different clients meet.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from config.names import OPERATION_QUEUES
from demo.lab import NODES

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo.network.crew import Crew
    from demo.network.ground import Site
    from scheduler.store.operations import Operation
    from tasks.context import Context

OPERATIONS: Final = 200
NETWORKS: Final = 20
CLIENTS: Final = 8
SEED: Final = 20
_COME_AND_GO: Final = 4  # networks that their owner deletes and creates again
_CROWDED: Final = 4
_FIRST_PREFIX: Final = 100
_FIRST_FLOATING: Final = 100
_FLOATING_EACH: Final = 16
_EVEN: Final = 0.5
_BURST: Final = 8  # operations that a client submits before it waits for them
_KINDS: Final = {"plug": 7, "unplug": 4, "refresh": 7, "floating_add": 4, "floating_remove": 2, "delete": 2}


@dataclass(frozen=True, slots=True)
class Act:
    """One call of a client: what, on which network, and what else it says."""

    kind: str
    network: str
    queue: str
    name: str = ""
    node: str = ""
    address: str = ""


@dataclass(slots=True)
class _Owned:
    """What a client has while its part is being drawn."""

    networks: list[str]
    deleted: list[str] = field(default_factory=list)
    interfaces: list[tuple[str, str]] = field(default_factory=list)
    floating: dict[tuple[str, str], str] = field(default_factory=dict)


def network_name(number: int) -> str:
    """What a network of the churn is called."""
    return f"net-{number:02d}"


def creations() -> list[Act]:
    """The networks, before anything is done on them."""
    dice = random.Random(SEED)
    return [_creation(dice, network_name(number)) for number in range(NETWORKS)]


def parts() -> list[list[Act]]:
    """What each client does, in its order. With the creations it is as many operations as there shall be."""
    each, more = divmod(OPERATIONS - NETWORKS, CLIENTS)
    return [_part(client, each + (client < more)) for client in range(CLIENTS)]


def _part(client: int, length: int) -> list[Act]:
    dice = random.Random(SEED * 1_000 + client)
    common = [network_name(number) for number in range(NETWORKS - _COME_AND_GO)]
    own = [network_name(number) for number in range(NETWORKS - _COME_AND_GO, NETWORKS)]
    addresses = [f"10.99.0.{_FIRST_FLOATING + client * _FLOATING_EACH + n}" for n in range(_FLOATING_EACH)]
    has = _Owned(networks=own[client : client + 1])
    acts: list[Act] = []
    while len(acts) < length:
        if has.deleted and dice.random() < _EVEN:
            act: Act | None = _creation(dice, has.deleted.pop())
        else:
            kind = dice.choices(list(_KINDS), list(_KINDS.values()))[0]
            crowded = common[:_CROWDED] if dice.random() < _EVEN else common
            network = dice.choice([*crowded, *(one for one in has.networks if one not in has.deleted)])
            act = _drawn(dice, kind, network, has, f"vm-{client}-{len(acts)}", addresses)
        if act is not None:
            acts.append(act)
    return acts


def _creation(dice: random.Random, network: str) -> Act:
    return Act("create", network, dice.choice(OPERATION_QUEUES), node=_homes(network)[0])


def _drawn(dice: random.Random, kind: str, network: str, has: _Owned, fresh: str, addresses: list[str]) -> Act | None:
    """An act of this kind; None when the client has nothing to do it with."""
    queue = dice.choice(OPERATION_QUEUES)
    plain = [one for one in has.interfaces if one not in has.floating]
    empty = [one for one in has.networks if one not in has.deleted and one not in dict(has.interfaces)]
    drawn = None
    if kind == "plug":
        has.interfaces.append((network, fresh))
        drawn = Act(kind, network, queue, name=fresh, node=dice.choice(_homes(network)))
    elif kind == "refresh":
        drawn = Act(kind, network, queue)
    elif kind == "delete" and empty:
        has.deleted.append(empty[0])
        drawn = Act(kind, empty[0], queue)
    elif kind == "unplug" and has.interfaces:
        gone = has.interfaces.pop(dice.randrange(len(has.interfaces)))
        has.floating.pop(gone, None)
        drawn = Act(kind, gone[0], queue, name=gone[1])
    elif kind == "floating_add" and plain:
        chosen = dice.choice(plain)
        has.floating[chosen] = next(address for address in addresses if address not in has.floating.values())
        drawn = Act(kind, chosen[0], queue, name=chosen[1], address=has.floating[chosen])
    elif kind == "floating_remove" and has.floating:
        chosen, address = dice.choice(sorted(has.floating.items()))
        del has.floating[chosen]
        drawn = Act(kind, chosen[0], queue, name=chosen[1], address=address)
    return drawn


class Churn:
    """Plays the parts."""

    def __init__(self, context: Context, site: Site, crew: Crew) -> None:
        self._context = context
        self._site = site
        self._crew = crew

    def run(self) -> None:
        """All of them, to the end of the last operation."""
        drawn = parts()
        self._site.add([act.name for part in drawn for act in part if act.kind == "plug"])
        created = [self._submit(act) for act in creations()]
        self._crew.together([lambda part=part: self._play(part) for part in drawn])  # type: ignore[misc]
        for operation in created:
            self._crew.wait(operation.id)

    def _play(self, part: list[Act]) -> None:
        pending: list[int] = []
        for act in part:
            if self._crew.over.is_set():
                return
            # A name is free when the deletion has ended, and not before.
            if len(pending) >= _BURST or act.kind == "create":
                self._wait_for(pending)
            pending.append(self._submit(act).id)
        self._wait_for(pending)

    def _wait_for(self, pending: list[int]) -> None:
        while pending:
            self._crew.wait(pending.pop(0))

    def _submit(self, act: Act) -> Operation:
        networks, name = self._context.networks, act.network
        calls: dict[str, Callable[[], Operation]] = {
            "create": lambda: networks.create(name, _prefix(name), node=act.node, queue=act.queue),
            "delete": lambda: networks.delete(name, queue=act.queue),
            "plug": lambda: networks.plug(
                name, act.name, act.node, namespace=self._site.namespace(act.name), queue=act.queue
            )[0],
            "unplug": lambda: networks.unplug(name, act.name, queue=act.queue),
            "floating_add": lambda: networks.add_floating(name, act.name, act.address, queue=act.queue),
            "floating_remove": lambda: networks.remove_floating(name, act.address, queue=act.queue),
            "refresh": lambda: self._context.operations.submit("network.refresh", name, queue=act.queue),
        }
        return calls[act.kind]()


def _homes(network: str) -> list[str]:
    """The nodes that a network may spread over, from that of its gateway on: the crowded ones over all, others over fewer."""
    number = int(network.rpartition("-")[2])
    nodes = [NODES[(number + turn) % len(NODES)] for turn in range(len(NODES))]
    return nodes if number < _CROWDED else nodes[: 1 + number % 2]


def _prefix(network: str) -> str:
    return f"10.{_FIRST_PREFIX + int(network.rpartition('-')[2])}.0.0/24"
