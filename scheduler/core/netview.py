"""What a network driver is told: one network as it should be on one node. A view that exists is valid throughout."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from scheduler.core import netnames
from scheduler.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable


@dataclass(frozen=True, slots=True)
class Host:
    """Somebody in the network: DHCP gives this address to this MAC, DNS gives it for the name."""

    mac: str
    address: str
    name: str

    def __post_init__(self) -> None:
        netnames.mac(self.mac)
        netnames.address(self.address)
        netnames.name("host", self.name)


@dataclass(frozen=True, slots=True)
class Port:
    """An interface to plug on this node, into the network namespace that is the instance."""

    interface: str
    instance_namespace: str
    mac: str
    device: str = "eth0"

    def __post_init__(self) -> None:
        netnames.name("interface", self.interface)
        netnames.namespace(self.instance_namespace)
        netnames.mac(self.mac)
        netnames.device(self.device)


@dataclass(frozen=True, slots=True)
class Floating:
    """An address of the underlay that stands for one of the network."""

    address: str
    fixed: str

    def __post_init__(self) -> None:
        netnames.address(self.address)
        netnames.address(self.fixed)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An interface on another node: its MAC is reached through that node's underlay address."""

    mac: str
    underlay: str

    def __post_init__(self) -> None:
        netnames.mac(self.mac)
        netnames.address(self.underlay)


@dataclass(frozen=True, slots=True)
class NetworkView:
    """One network as it should be on one node. `asdict` is its JSON."""

    name: str
    vni: int
    prefix: str
    node: str
    mtu: int  # inside the network
    domain: str
    serves_dhcp: bool = False  # this node has the gateway: its address, DHCP, DNS and the floating addresses
    peers: tuple[str, ...] = ()  # underlay addresses of the other nodes that have the network
    hosts: tuple[Host, ...] = ()  # all of the network, wherever they are
    ports: tuple[Port, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    floating: tuple[Floating, ...] = ()

    def __post_init__(self) -> None:
        netnames.name("network", self.name)
        netnames.name("node", self.node)
        netnames.vni(self.vni)
        netnames.domain(self.domain)
        network = netnames.prefix(self.prefix)
        for host in self.hosts:
            netnames.host_address(host.address, network)
        for floating in self.floating:
            netnames.host_address(floating.fixed, network)
        for peer in self.peers:
            netnames.address(peer)
        once = partial(_once, self.name)
        once("MAC", (host.mac for host in self.hosts))
        once("address", (host.address for host in self.hosts))
        once("host name", (host.name for host in self.hosts))
        once("interface", (port.interface for port in self.ports))
        once("device", ((port.instance_namespace, port.device) for port in self.ports))
        once("neighbour", (neighbour.mac for neighbour in self.neighbours))
        once("floating address", (floating.address for floating in self.floating))
        once("fixed address", (floating.fixed for floating in self.floating))

    @property
    def gateway(self) -> str:
        """The network's router, name server and DHCP server."""
        return str(netnames.gateway(netnames.prefix(self.prefix)))

    def port(self, interface: str) -> Port:
        """The port of that interface."""
        for port in self.ports:
            if port.interface == interface:
                return port
        raise Refused(
            f"interface {interface} of network {self.name}",
            expected=f"one that node {self.node} has",
            got=", ".join(port.interface for port in self.ports) or "none",
            remedy="plug it on its own node",
        )

    def port_of(self, host: str) -> str | None:
        """The interface of the host of that name, if it is on this node."""
        mac = next((one.mac for one in self.hosts if one.name == host), None)
        return next((port.interface for port in self.ports if port.mac == mac), None)

    def to_json(self) -> dict[str, Any]:
        """The view as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> NetworkView:
        """The view that `to_json` wrote, checked again."""
        kinds: dict[str, Callable[..., Any]] = {
            "hosts": Host,
            "ports": Port,
            "neighbours": Neighbour,
            "floating": Floating,
        }
        parts = {key: tuple(kind(**part) for part in document.get(key, ())) for key, kind in kinds.items()}
        return cls(**{**document, "peers": tuple(document.get("peers", ())), **parts})


def _once(network: str, what: str, values: Iterable[Hashable]) -> None:
    seen = set()
    for value in values:
        if value in seen:
            got, remedy = f"{value} twice", "give one of them another"
            raise Refused(f"network {network}", expected=f"every {what} once", got=got, remedy=remedy)
        seen.add(value)
