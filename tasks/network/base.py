"""What every network driver does: make one network on one node what a view says it should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from scheduler.core.netview import Floating, Neighbour, NetworkView


@dataclass(frozen=True, slots=True)
class Change:
    """Something that a call really changed."""

    kind: str  # bridge, tunnel, mesh, port, dnsmasq, rules, floating, forwarding
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


Changes = tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Observed:
    """What there is of one network on one node now. Of the dry run: what there would be."""

    bridge: str | None = None  # the device
    gateway: str | None = None
    tunnel: str | None = None
    peers: tuple[str, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    ports: tuple[str, ...] = ()  # interfaces
    dnsmasq: int | None = None  # its pid; 0 = a dry run's
    hosts: tuple[tuple[str, str], ...] = ()  # MAC and address, as DHCP gives them
    floating: tuple[Floating, ...] = ()


class Driver(Protocol):
    """One way to make networks. Safe to call from many processes: calls for one network of one node queue up.

    Each method converges: it may be called at any time, again, and after a call that was killed half-way. It returns
    what it changed, which is nothing when all was as it should be. What carries no name of Stoker's is never touched.

    Raises:
        Refused: the view asks for what cannot be; nothing changed.
        Temporary: something it needs is not there yet, or another call takes long; call again.
        Permanent: a person has to grant a right or install something.
    """

    def create_network(self, view: NetworkView) -> Changes:
        """The bridge, the tunnel and the rules that fence them in; on the node of the gateway also its address."""
        ...

    def ensure_mesh(self, view: NetworkView) -> Changes:
        """The tunnel's table: who floods reach, and which MAC is behind which node."""
        ...

    def update_dnsmasq(self, view: NetworkView) -> Changes:
        """One DHCP and DNS server on the node of the gateway, that knows all hosts; on other nodes none."""
        ...

    def plug_interface(self, view: NetworkView, interface: str) -> Changes:
        """The pair of devices that joins the instance's namespace to the bridge."""
        ...

    def unplug_interface(self, view: NetworkView, interface: str) -> Changes:
        """No such pair. The view need not know the interface any more."""
        ...

    def converge_floating(self, view: NetworkView) -> Changes:
        """On the node of the gateway: the floating addresses, and their translation both ways."""
        ...

    def delete_network(self, node: str, vni: int, name: str) -> Changes:
        """Nothing of the network on the node: devices, rules, server, files."""
        ...

    def observe(self, node: str, vni: int) -> Observed:
        """What there is now. Changes nothing and waits for nobody."""
        ...
