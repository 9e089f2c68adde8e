"""The devices of a network on a node: a bridge, a tunnel to the other nodes, and a pair of ends for each interface."""

from __future__ import annotations

import errno
import socket
from dataclasses import replace
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any, Final, Protocol

from pyroute2 import IPRoute, NetlinkError

from scheduler.core import netnames
from scheduler.core.netview import Neighbour
from scheduler.errors import Permanent
from tasks.network.base import Change
from tasks.network.linux_namespaces import inside, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.core.netview import NetworkView, Port

_SELF: Final = 2  # NTF_SELF: the tunnel's own table, not the bridge's
_PERMANENT: Final = 0x80  # NUD_PERMANENT
_HOST_BITS: Final = 32


class Link(Protocol):
    """A device as pyroute2 describes it: attributes by name or by path."""

    def get(self, key: str | tuple[str, ...]) -> Any:  # noqa: ANN401 - whatever the attribute is
        """The attribute, or None."""
        ...


class Links:
    """The devices of one network in the namespace of the thread that made this."""

    def __init__(self, route: IPRoute, vni: int) -> None:
        self._route = route
        self._vni = vni
        self._bridge = netnames.bridge_device(vni)
        self._tunnel = netnames.tunnel_device(vni)

    def stand(self, view: NetworkView, local: str, vxlan_port: int) -> Iterator[Change]:
        """The bridge and the tunnel as they should be; the bridge has the gateway's address where the view says so."""
        yield from self._stand_bridge(view)
        yield from self._stand_tunnel(view, local, vxlan_port)

    def mesh(self, view: NetworkView) -> Iterator[Change]:
        """The tunnel's table, entry by entry; what is right is left alone, so that traffic does not notice."""
        index = self._index(self._tunnel)
        want = {(netnames.BROADCAST_MAC, peer) for peer in view.peers}
        want |= {(neighbour.mac, neighbour.underlay) for neighbour in view.neighbours}
        have = self._entries(index)
        for mac, underlay in sorted(have - want):
            self._fdb("del", index, mac, underlay)
            yield Change("mesh", f"-{mac} via {underlay}")
        for mac, underlay in sorted(want - have):
            # Frames for everybody go to each peer; one MAC is in one place.
            self._fdb("append" if mac == netnames.BROADCAST_MAC else "add", index, mac, underlay)
            yield Change("mesh", f"+{mac} via {underlay}")

    def plug(self, view: NetworkView, port: Port) -> Iterator[Change]:
        """The pair of ends: one in the bridge, one in the instance under the port's name, MAC and MTU, both up."""
        name = netnames.port_device(self._vni, port.interface)
        bridge = self._index(self._bridge)
        end = self.find(name)
        if end is not None:
            _refuse_foreign(end, name, "veth")
            if end.get("ifalias") not in {None, port.interface}:
                raise _foreign(name, f"the end of {port.interface}", f"that of {end.get('ifalias')}")
            if not inside(port.instance_namespace, lambda: _is_other_end(end, port)):
                self._delete(end["index"])
                yield Change("port", f"-{port.interface}, which led elsewhere")
                end = None
        if end is None:
            self._make_pair(name, bridge, port, view.mtu)
            yield Change("port", f"+{port.interface} as {name}")
        yield from self._settle(name, "port", master=bridge, mtu=view.mtu, ifalias=port.interface)
        yield from inside(port.instance_namespace, lambda: tuple(_settle_instance(port, view.mtu)))

    def unplug(self, interface: str) -> Iterator[Change]:
        """Remove the pair: with one end goes the other, wherever it is."""
        name = netnames.port_device(self._vni, interface)
        end = self.find(name)
        if end is not None:
            _refuse_foreign(end, name, "veth")
            self._delete(end.get("index"))
            yield Change("port", f"-{interface}")

    def hold(self, addresses: set[str]) -> Iterator[Change]:
        """Of all /32 addresses, have exactly these on the bridge, which is ours alone: no foreign one can be among them."""
        index = self._index(self._bridge)
        have = set(self.addresses(_HOST_BITS))
        for sign, verb, some in (("-", "del", have - addresses), ("+", "add", addresses - have)):
            for address in sorted(some):
                self._route.addr(verb, index=index, address=address, prefixlen=_HOST_BITS)
                yield Change("floating", f"{sign}{address}")

    def remove(self) -> Iterator[Change]:
        """Every device of the network. The bridge is last: by it a next call finds what a killed one left."""
        for interface, index in self._ports():
            self._delete(index)
            yield Change("port", f"-{interface}")
        for name, kind, what in ((self._tunnel, "vxlan", "tunnel"), (self._bridge, "bridge", "bridge")):
            link = self.find(name)
            if link is not None:
                _refuse_foreign(link, name, kind)
                self._delete(link.get("index"))
                yield Change(what, f"-{name}")

    def find(self, name: str) -> Any:  # noqa: ANN401 - pyroute2's message, or None
        """The device of that name; None when there is none."""
        return _find(self._route, name)

    def addresses(self, length: int | None = None) -> list[str]:
        """IPv4 addresses of the bridge: those with this prefix length, or all that are no /32."""
        bridge = self.find(self._bridge)
        if bridge is None:
            return []
        found = self._route.get_addr(index=bridge.get("index"), family=socket.AF_INET)
        return [
            one.get("address")
            for one in found
            if (one["prefixlen"] == length if length else one["prefixlen"] < _HOST_BITS)
        ]

    def peers_and_neighbours(self) -> tuple[tuple[str, ...], tuple[Neighbour, ...]]:
        """The tunnel's table, as a view has it."""
        tunnel = self.find(self._tunnel)
        entries = sorted(self._entries(tunnel.get("index"))) if tunnel else []
        peers = tuple(underlay for mac, underlay in entries if mac == netnames.BROADCAST_MAC)
        return peers, tuple(Neighbour(mac, underlay) for mac, underlay in entries if mac != netnames.BROADCAST_MAC)

    def ports(self) -> tuple[str, ...]:
        """The interfaces that are plugged."""
        return tuple(sorted(interface for interface, _ in self._ports()))

    def index(self) -> int:
        """The number of the bridge. Another bridge of the same name has another."""
        return self._index(self._bridge)

    def _stand_bridge(self, view: NetworkView) -> Iterator[Change]:
        # A MAC of its own, or it would take on that of each port that comes and goes.
        mac = netnames.bridge_mac(self._vni, view.node, is_gateway=view.serves_dhcp)
        if self.find(self._bridge) is None:
            self._route.link("add", ifname=self._bridge, kind="bridge", address=mac, mtu=view.mtu)
            yield Change("bridge", f"+{self._bridge}")
        _refuse_foreign(self.find(self._bridge), self._bridge, "bridge")
        yield from self._settle(self._bridge, "bridge", mtu=view.mtu, address=mac)
        want = {view.gateway} if view.serves_dhcp else set()
        have = set(self.addresses())
        length = IPv4Network(view.prefix).prefixlen
        index = self._index(self._bridge)
        for address in sorted(have - want):
            for one in self._route.get_addr(index=index, family=socket.AF_INET, address=address):
                self._route.addr("del", index=index, address=address, prefixlen=one["prefixlen"])
            yield Change("bridge", f"-{address}")
        for address in sorted(want - have):
            self._route.addr("add", index=index, address=address, prefixlen=length)
            yield Change("bridge", f"+{address}/{length}")

    def _stand_tunnel(self, view: NetworkView, local: str, vxlan_port: int) -> Iterator[Change]:
        want = {"vxlan_id": self._vni, "vxlan_local": local, "vxlan_port": vxlan_port, "vxlan_learning": 0}
        bridge = self._index(self._bridge)
        tunnel = self.find(self._tunnel)
        if tunnel is not None:
            _refuse_foreign(tunnel, self._tunnel, "vxlan")
            if any(tunnel.get(("linkinfo", "data", key)) != value for key, value in want.items()):
                # A tunnel keeps what it was made with.
                self._delete(tunnel.get("index"))
                yield Change("tunnel", f"-{self._tunnel}, made with other settings")
                tunnel = None
        if tunnel is None:
            self._route.link("add", ifname=self._tunnel, kind="vxlan", mtu=view.mtu, master=bridge, **want)
            yield Change("tunnel", f"+{self._tunnel}")
            yield from self._settle(self._tunnel, "tunnel", mtu=view.mtu, master=bridge)
            yield from self.mesh(view)
        yield from self._settle(self._tunnel, "tunnel", mtu=view.mtu, master=bridge)

    def _make_pair(self, name: str, bridge: int, port: Port, mtu: int) -> None:
        with opened(port.instance_namespace) as namespace:
            # One message: the kernel makes both ends where they belong or neither, whenever this process dies.
            other = {"ifname": port.device, "address": port.mac, "mtu": mtu, "net_ns_fd": namespace}
            try:
                self._route.link("add", ifname=name, kind="veth", master=bridge, mtu=mtu, peer=other)
            except NetlinkError as error:
                if error.code != errno.EEXIST:
                    raise
                where = f"{port.device} in {port.instance_namespace}"
                raise _foreign(where, "no such device, or Stoker's own", "somebody else's") from error

    def _delete(self, index: int) -> None:
        try:
            self._route.link("del", index=index)
        except NetlinkError as error:
            # A namespace that ends takes its devices along, some time after its name is gone.
            if error.code != errno.ENODEV:
                raise

    def _settle(self, name: str, kind: str, **want: int | str) -> Iterator[Change]:
        yield from _settle(self._route, name, kind, **want)

    def _ports(self) -> list[tuple[str, int]]:
        bridge = self.find(self._bridge)
        if bridge is None:
            return []
        links = [link for link in self._route.get_links(master=bridge.get("index")) if _is_port(link)]
        return [(link.get("ifalias") or link.get("ifname"), link["index"]) for link in links]

    def _entries(self, index: int) -> set[tuple[str, str]]:
        return {
            (entry.get("lladdr"), entry.get("dst"))
            for entry in self._route.fdb("dump", ifindex=index)
            if entry["ifindex"] == index and entry["flags"] & _SELF and entry.get("dst")
        }

    def _fdb(self, verb: str, index: int, mac: str, underlay: str) -> None:
        self._route.fdb(verb, ifindex=index, lladdr=mac, dst=underlay, flags=_SELF, state=_PERMANENT)

    def _index(self, name: str) -> int:
        link = self.find(name)
        if link is None:
            raise NetlinkError(errno.ENODEV, name)
        return int(link["index"])


def _find(route: IPRoute, name: str) -> Any:  # noqa: ANN401 - pyroute2's message, or None
    try:
        return next(iter(route.link("get", ifname=name)))
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise


def _settle(route: IPRoute, name: str, kind: str, **want: int | str) -> Iterator[Change]:
    link = _find(route, name)
    if link is None:
        raise NetlinkError(errno.ENODEV, name)
    wrong = {key: value for key, value in {**want, "state": "up"}.items() if link.get(key) != value}
    if wrong:
        route.link("set", index=link["index"], **wrong)
        yield Change(kind, f"{name} {', '.join(f'{key}={value}' for key, value in sorted(wrong.items()))}")


def _settle_instance(port: Port, mtu: int) -> Iterator[Change]:
    with IPRoute() as route:
        for name, want in (("lo", {}), (port.device, {"mtu": mtu})):
            for change in _settle(route, name, "port", **want):
                yield replace(change, what=f"{change.what} in {port.instance_namespace}")


def _is_other_end(end: Link, port: Port) -> bool:
    with IPRoute() as route:
        other = _find(route, port.device)
    if other is None or other.get(("linkinfo", "kind")) != "veth" or other.get("address") != port.mac:
        return False
    # Each end names the other by its number.
    return bool(other.get("link") == end.get("index") and end.get("link") == other.get("index"))


def _is_port(link: Link) -> bool:
    return link.get(("linkinfo", "kind")) == "veth" and str(link.get("ifname")).startswith("sv-")


def _refuse_foreign(link: Link, name: str, kind: str) -> None:
    got = link.get(("linkinfo", "kind"))
    if got != kind:
        raise _foreign(name, f"a {kind} of Stoker's", f"a {got or 'device'} of somebody else's")


def _foreign(what: str, expected: str, got: str) -> Permanent:
    return Permanent(
        f"device {what}", expected=expected, got=got, remedy="rename or remove that device; Stoker does not"
    )
