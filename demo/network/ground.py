"""Where the demo's networks are: on nodes that are namespaces, where they can be made here; else they are written down."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from config.network import Network, NetworkNode
from demo.lab import NODES, lab, lab_network, new_prefix, node_address
from scheduler.errors import Permanent
from tasks.network.linux_commands import program
from tasks.network.sandbox import sandbox, ways

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from config.settings import Settings
    from demo.lab import Lab
    from tasks.network.sandbox import Way
    from tasks.services import Service

_GUESTS_NEED: Final = {"udhcpc": "udhcpc", "ping": "iputils-ping"}
_SERVICE: Final = "network"


@dataclass(frozen=True)
class Site:
    """The place itself, while it stands. `lab` is None where networks are only written down."""

    lab: Lab | None = None

    def namespace(self, player: str) -> str:
        """The namespace that an instance is."""
        return self.lab.namespace(player) if self.lab else player

    def add(self, players: Sequence[str]) -> None:
        """Instances that can be plugged in."""
        if self.lab:
            self.lab.add(*players)

    def enter(self, argv: Sequence[str]) -> tuple[str, ...]:
        """The command that runs `argv` where networks can be looked at."""
        return self.lab.box.enter(argv) if self.lab else tuple(argv)

    def services(self, services: Sequence[Service], settings: Settings) -> list[Service]:
        """The services of a deployment, with the one that makes networks where it may."""
        return [self._placed(service, settings) if service.name == _SERVICE else service for service in services]

    def pids(self) -> list[int]:
        """The processes that live on its nodes and in its instances."""
        players = (*NODES, "outside")
        return [pid for player in players for pid in self.lab.pids(player)] if self.lab else []

    def _placed(self, service: Service, settings: Settings) -> Service:
        if self.lab is None or self.lab.box.holder is None:
            return service
        # Who enters a user namespace loses the signal that tells of the parent's death: it is asked for again in there.
        argv = (program("setpriv"), "--pdeathsig", "KILL", *service.argv)
        # In there everybody is root, whose engines might be elsewhere: it is told where they are.
        engines = {"STOKER_DATABASE_URL": settings.database_dsn, "STOKER_REDIS_URL": settings.broker_url}
        return replace(service, argv=self.lab.box.enter(argv), env={**service.env, **engines})


@dataclass(frozen=True)
class Ground:
    """What was found out before anything is made: the settings of the networks, and why they are so."""

    network: Network
    prefix: str  # of the lab's namespaces; '' = no lab
    way: str  # root, user_namespace or none
    why: str

    @property
    def is_real(self) -> bool:
        """Whether there will be networks, and not only what they would be."""
        return self.network.driver == "linux"

    @property
    def words(self) -> str:
        """What a reader is told of it."""
        if not self.is_real:
            return f"networks are only written down (driver dry_run), nothing can be pinged: {self.why}"
        where = "as root" if self.way == "root" else "in a user namespace"
        return f"real Linux networks (driver linux, {where}), three nodes that are network namespaces"

    @contextmanager
    def opened(self) -> Iterator[Site]:
        """The place, until the end of the block; then no namespace and no process of it is left."""
        if not self.is_real:
            yield Site()
            return
        with sandbox() as box, lab(box, self.prefix) as made:
            yield Site(made)


def find_ground() -> Ground:
    """The most real one that this machine allows."""
    way = ways()
    missing = _missing(way) if way.way else ""
    if way.way is None or missing:
        nodes = {name: NetworkNode(address=node_address(name)) for name in NODES}
        return Ground(Network(driver="dry_run", nodes=nodes), "", "none", missing or way.reason)
    prefix = new_prefix()
    return Ground(lab_network(prefix), prefix, way.way, way.reason)


def _missing(way: Way) -> str:
    """What is not here, of what real networks with instances on them need."""
    if way.way == "user_namespace" and os.geteuid() == 0:
        # PostgreSQL refuses to run as root, and a user namespace does not know as whom it runs instead.
        return "root without CAP_NET_ADMIN reaches no engine from a user namespace; run as another user, or with it"
    for name, package in _GUESTS_NEED.items():
        try:
            program(name)
        except Permanent:
            return f"{name} is not installed; apt-get install {package}"
    return ""
