"""What of a network is not as it should be, on one node: the view of what is wanted beside what the driver sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from scheduler.core import netnames
from tasks.network.base import Observed

if TYPE_CHECKING:
    from scheduler.core.netview import NetworkView


class Difference(NamedTuple):
    """One thing that differs."""

    what: str  # a field of Observed
    wanted: object
    seen: object


def wanted(view: NetworkView | None) -> Observed:
    """What a driver would see if all was as the view says; without a view, nothing. The pid of dnsmasq is given as 0."""
    if view is None:
        return Observed()
    serves = view.serves_dhcp
    return Observed(
        bridge=netnames.bridge_device(view.vni),
        gateway=view.gateway if serves else None,
        tunnel=netnames.tunnel_device(view.vni),
        peers=tuple(sorted(view.peers)),
        neighbours=tuple(sorted(view.neighbours, key=lambda one: one.mac)),
        ports=tuple(sorted(port.interface for port in view.ports)),
        dnsmasq=0 if serves else None,
        hosts=tuple(sorted((host.mac, host.address) for host in view.hosts)) if serves else (),
        floating=tuple(sorted(view.floating, key=lambda one: one.address)) if serves else (),
    )


def differences(view: NetworkView | None, seen: Observed) -> list[Difference]:
    """Everything that differs; whether dnsmasq runs counts, its number does not."""
    should = wanted(view)
    found = [
        Difference(what, getattr(should, what), getattr(seen, what))
        for what in ("bridge", "gateway", "tunnel", "peers", "neighbours", "ports", "hosts", "floating")
        if _plain(getattr(should, what)) != _plain(getattr(seen, what))
    ]
    if (should.dnsmasq is None) != (seen.dnsmasq is None):
        found.append(Difference("dnsmasq", should.dnsmasq, seen.dnsmasq))
    return found


def _plain(value: object) -> object:
    return sorted(value, key=repr) if isinstance(value, tuple) else value
