"""The incident itself: six instances start on one network at the same moment; once sharing runs, once each for itself."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from config.names import USER_WAITING_QUEUE
from demo.lab import DEADLINE_S, NODES, LabError
from demo.network.record import Guest
from tasks.context import Context
from tasks.networks import Networks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from demo.lab import Lab
    from demo.network.crew import Crew
    from demo.network.ground import Site

STARTS: Final = 6
ROUNDS: Final = 3  # one alone says as much of this machine's other work as of folding
OTHER: Final = "other"  # a network that no start is on, and that nobody of theirs may reach


@dataclass(frozen=True, slots=True)
class Instance:
    """One to be started: its network, its node, and what it is called."""

    network: str
    node: str
    name: str


def shared(turn: int) -> str:
    """The network of six starts."""
    return f"shared-{turn + 1}"


def apart(turn: int) -> str:
    """The network of six starts that share nothing."""
    return f"apart-{turn + 1}"


def instances(network: str, count: int) -> list[Instance]:
    """So many of a network, spread over the nodes."""
    return [Instance(network, NODES[turn % len(NODES)], f"{network}-{turn + 1}") for turn in range(count)]


class Incident:
    """The six starts, and what surrounds them."""

    def __init__(self, context: Context, site: Site, crew: Crew) -> None:
        self._context = context
        self._site = site
        self._crew = crew
        self._gateways: dict[str, str] = {}
        self._addresses: dict[str, str] = {}
        self._leased: dict[str, str] = {}
        operations = context.settings.operations.model_copy(update={"coalesce": False})
        # What it submits carries with it that it shares no run: workers need not be told otherwise.
        self._apart = Context(context.settings.model_copy(update={"operations": operations}), context.app)
        self._apart.db = context.db

    def prepare(self) -> None:
        """Start an instance of another network on each node: nobody of the six is the very first."""
        others = instances(OTHER, len(NODES))
        rounds = [network for turn in range(ROUNDS) for network in (shared(turn), apart(turn))]
        everybody = [*others, *(one for network in rounds for one in instances(network, STARTS))]
        self._site.add([one.name for one in everybody])
        self._create(OTHER)
        self._start(self._context.networks, others)

    def play(self) -> None:
        """Create a network and start six on it in the same moment, as anybody would; then six whose steps share no run.

        A few times in turn. The starts do not wait for the creation: whatever is asked for while it runs is asked at once.
        """
        alone = Networks(self._apart)
        for turn in range(ROUNDS):
            self._create(shared(turn))
            self._crew.seen.starts.append(self._start(self._context.networks, instances(shared(turn), STARTS)))
            self._create(apart(turn))
            self._crew.seen.apart.append(self._start(alone, instances(apart(turn), STARTS)))

    def look_around(self) -> None:
        """Have every instance resolve the names and ping the addresses of its network, and try those of the other."""
        lab = self._site.lab
        if lab is None:
            return
        everybody = [*instances(shared(0), STARTS), *instances(OTHER, len(NODES))]
        self._crew.together([lambda one=one: self._look(lab, one, everybody) for one in everybody])  # type: ignore[misc]

    def _create(self, network: str) -> None:
        number = len(self._gateways) + 1
        self._gateways[network] = f"10.{number}.0.1"
        self._context.networks.create(network, f"10.{number}.0.0/24", node=NODES[0])

    def _start(self, networks: Networks, wanted: list[Instance]) -> list[int]:
        at_once = threading.Barrier(len(wanted))
        submitted: list[int] = []

        def start(one: Instance) -> None:
            at_once.wait(DEADLINE_S)
            operation, interface = networks.plug(
                one.network,
                one.name,
                one.node,
                namespace=self._site.namespace(one.name),
                queue=USER_WAITING_QUEUE,
            )
            submitted.append(operation.id)
            self._addresses[one.name] = interface["address"]
            self._crew.wait(operation.id)
            if self._site.lab is not None:
                self._leased[one.name] = _lease(self._site.lab, one.name)

        self._crew.together([lambda one=one: start(one) for one in wanted])  # type: ignore[misc]
        return sorted(submitted)

    def _look(self, lab: Lab, one: Instance, everybody: Iterable[Instance]) -> None:
        own = [other for other in everybody if other.network == one.network and other != one]
        strangers = [other for other in everybody if other.network != one.network][:1]
        domain = self._context.underlay.domain
        asked = {
            "server": self._gateways[one.network],
            "names": {f"{other.name}.{domain}": self._addresses[other.name] for other in own},
            "peers": [self._addresses[other.name] for other in own],
            "strangers": [self._addresses[other.name] for other in strangers],
        }
        found = _eyes(lab, one.name, asked)
        self._crew.seen.guests.append(
            Guest(
                name=one.name,
                leased=self._leased.get(one.name, ""),
                wanted=self._addresses[one.name],
                resolved=found.get("resolved", 0),
                names=len(own),
                pings_ok=found.get("pings_ok", 0),
                pings=len(own),
                strangers_reached=found.get("strangers_reached", 0),
                strangers=len(strangers),
            )
        )


def _lease(lab: Lab, name: str) -> str:
    """The address that DHCP gave; '' when it gave none, which the figures count."""
    try:
        return lab.lease(name)[0]
    except (LabError, subprocess.TimeoutExpired):
        return ""


def _eyes(lab: Lab, name: str, asked: dict[str, Any]) -> dict[str, int]:
    try:
        said = lab.run((sys.executable, "-m", "demo.network.guest"), name, given=json.dumps(asked))
    except (LabError, subprocess.TimeoutExpired):
        return {}
    found: dict[str, int] = json.loads(said)
    return found
