"""Networks of Linux itself: bridges, VXLAN, veth pairs, nftables and dnsmasq, in the namespace that is the node."""

from __future__ import annotations

import errno
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from pyroute2 import IPRoute, NetlinkError

from scheduler.core import netnames
from scheduler.errors import Permanent, Refused, StokerError, Temporary
from tasks.network.base import Change, Changes, Observed
from tasks.network.fence import Fence
from tasks.network.linux_commands import RIGHTS
from tasks.network.linux_dnsmasq import Dnsmasq
from tasks.network.linux_links import Links
from tasks.network.linux_namespaces import inside
from tasks.network.linux_rules import Rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from config.network import Network, NetworkNode
    from scheduler.core.netview import NetworkView

_FORWARDING: Final = "/proc/sys/net/ipv4/conf/{}/forwarding"
_RIGHTS_MISSING: Final = frozenset({errno.EPERM, errno.EACCES})
_KERNEL_LACKS: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.EAFNOSUPPORT})
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class _Workplace:
    """One network on one node, while its lock is held."""

    links: Links
    rules: Rules
    server: Dnsmasq


class LinuxDriver:
    """Makes networks with the kernel's own devices. Keeps in memory nothing that the kernel or a file does not hold."""

    name: Final = "linux"

    def __init__(self, config: Network, state_dir: Path) -> None:
        self._config = config
        self._fence = Fence(state_dir.resolve() / "network")

    def create_network(self, view: NetworkView) -> Changes:
        """Rules first, so that no frame passes a bridge that is not fenced in yet."""
        return self._converge(view, lambda _: (), fence_too=True)

    def ensure_mesh(self, view: NetworkView) -> Changes:
        """Only what differs is touched; entries of other devices are not even looked at."""
        return self._converge(view, lambda at: at.links.mesh(view))

    def update_dnsmasq(self, view: NetworkView) -> Changes:
        """Its comings and goings are changes: started, reloaded, stopped."""
        return self._converge(
            view, lambda at: at.server.converge(view, at.links.index()) if view.serves_dhcp else at.server.stop()
        )

    def plug_interface(self, view: NetworkView, interface: str) -> Changes:
        """The instance's end gets its MAC and MTU; its address is for its DHCP client to ask for."""
        port = view.port(interface)
        return self._converge(view, lambda at: at.links.plug(view, port))

    def unplug_interface(self, view: NetworkView, interface: str) -> Changes:
        """Makes no bridge where there is none."""
        netnames.name("interface", interface)
        return self._act(view.node, view.vni, lambda at: at.links.unplug(interface))

    def converge_floating(self, view: NetworkView) -> Changes:
        """The bridge holds the addresses: Linux answers for them on every interface of the node."""
        wanted = view.floating if view.serves_dhcp else ()
        local = self._node(view.node).address

        def floating(at: _Workplace) -> Iterator[Change]:
            yield from at.rules.translate(wanted)
            yield from at.links.hold({one.address for one in wanted})
            if wanted:
                # Of these two interfaces only: what else the node's interfaces forward is for others to say.
                yield from _forward(netnames.bridge_device(view.vni))
                yield from _forward(_device_of(local))

        return self._converge(view, floating, fence_too=True)

    def delete_network(self, node: str, vni: int, name: str) -> Changes:
        """The files go last: while they are there, a next call finds a server that this one did not end."""
        netnames.name("network", name)

        def gone(at: _Workplace) -> Iterator[Change]:
            yield from at.server.stop()
            yield from at.links.remove()
            yield from at.rules.remove()
            self._fence.forget(node, vni)

        return self._act(node, netnames.vni(vni), gone)

    def observe(self, node: str, vni: int) -> Observed:
        """Read from the kernel, dnsmasq's process and its files."""
        server = Dnsmasq(self._fence.folder(node, netnames.vni(vni)))

        def look() -> Observed:
            with IPRoute() as route:
                links = Links(route, vni)
                bridge, tunnel = netnames.bridge_device(vni), netnames.tunnel_device(vni)
                peers, neighbours = links.peers_and_neighbours()
                return Observed(
                    bridge=bridge if links.find(bridge) else None,
                    gateway=next(iter(links.addresses()), None),
                    tunnel=tunnel if links.find(tunnel) else None,
                    peers=peers,
                    neighbours=neighbours,
                    ports=links.ports(),
                    dnsmasq=server.pid(),
                    hosts=server.hosts(),
                    floating=Rules(vni).translations(),
                )

        return self._inside(node, f"network {vni} on node {node}", look)

    def _converge(
        self, view: NetworkView, step: Callable[[_Workplace], Iterable[Change]], *, fence_too: bool = False
    ) -> Changes:
        # Every step first sees to what it stands on, so that steps may come in any order.
        node = self._node(view.node)

        def work(at: _Workplace) -> Iterator[Change]:
            if fence_too or at.links.find(netnames.bridge_device(view.vni)) is None:
                yield from at.rules.fence(view)
            yield from at.links.stand(view, node.address, self._config.vxlan_port)
            yield from step(at)

        return self._act(view.node, view.vni, work)

    def _act(self, node: str, vni: int, work: Callable[[_Workplace], Iterable[Change]]) -> Changes:
        def alone() -> Changes:
            with self._fence.held(node, vni) as held, IPRoute() as route:
                return tuple(work(_Workplace(Links(route, vni), Rules(vni, held.lock), Dnsmasq(held.folder))))

        return self._inside(node, f"network {vni} on node {node}", alone)

    def _inside(self, node: str, what: str, work: Callable[[], _Result]) -> _Result:
        with _said_in_our_words(what):
            return inside(self._node(node).namespace, work)

    def _node(self, name: str) -> NetworkNode:
        node = self._config.nodes.get(name)
        if node is None:
            known = ", ".join(self._config.nodes)
            raise Refused("node", expected=f"one of network.nodes: {known}", got=name, remedy="add it to the settings")
        return node


@contextmanager
def _said_in_our_words(what: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        raise _translated(what, error.code, str(error)) from error
    except StokerError:
        raise
    except OSError as error:
        raise _translated(what, error.errno or 0, str(error)) from error


def _translated(what: str, code: int, got: str) -> StokerError:
    if code in _RIGHTS_MISSING:
        return Permanent(what, expected="the right to change the network", got=got, remedy=RIGHTS)
    if code in _KERNEL_LACKS:
        remedy = "load bridge, vxlan, veth and nf_tables; remove another tunnel of the same VNI and port"
        return Permanent(what, expected="a kernel that makes such devices", got=got, remedy=remedy)
    return Temporary(what, expected="nobody else to change the same devices", got=got, remedy="it is tried again")


def _forward(device: str) -> Iterator[Change]:
    path = Path(_FORWARDING.format(device))
    if path.read_text(encoding="ascii").strip() != "1":
        path.write_text("1\n", encoding="ascii")
        yield Change("forwarding", f"+{device}")


def _device_of(address: str) -> str:
    with IPRoute() as route:
        for found in route.get_addr(family=socket.AF_INET):
            if found.get("local") == address or found.get("address") == address:
                return str(next(iter(route.link("get", index=found["index"]))).get("ifname"))
    raise Temporary(
        "underlay address", expected=f"an interface with {address}", got="none", remedy="add it, or mend network.nodes"
    )
