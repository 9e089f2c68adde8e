"""What `stoker doctor` asks of networks and operations: whether this machine can do what the settings want of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.ladder import HANDED_OVER_S
from scheduler.errors import StokerError
from tasks.cli.check import Check
from tasks.network import sandbox
from tasks.network.here import has_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from config.network import Network, NetworkNode
    from config.settings import Settings


def leases(settings: Settings) -> Check:
    """How long the step of a worker that died stays undone at most. Settings by which it is too long are refused before."""
    lease_s, sweep_s, look_s = settings.operations.lease_s, settings.schedule.sweep_s, settings.operations.look_s
    in_all_s = lease_s + sweep_s + look_s
    return Check(
        "hand-over of operations",
        in_all_s <= HANDED_OVER_S,
        f"lease {lease_s:g} + sweep {sweep_s:g} + look {look_s:g} = {in_all_s:g} <= {HANDED_OVER_S:g} s",
        "lower operations.lease_s, operations.look_s or schedule.sweep_s",
    )


def networks(network: Network) -> Iterator[Check]:
    """Whether the driver can work here, and each node is where the settings say."""
    if network.driver == "dry_run":
        yield Check("network driver", ok=True, found="dry_run: what would be made on any node is written down")
        return
    way = sandbox.ways()
    yield Check(
        "network driver",
        way.way is not None,
        f"{network.driver}, as {way.way}: {way.reason}" if way.way else way.reason,
        'install iproute2, nftables and dnsmasq-base and run as root, or set network.driver = "dry_run"',
    )
    for name, node in network.nodes.items():
        yield _namespace(name, node) if node.namespace else _machine(name, node)


def _namespace(name: str, node: NetworkNode) -> Check:
    from tasks.network.linux_namespaces import inside  # noqa: PLC0415 - of Linux alone

    title = f"network node {name}"
    try:
        has_it = inside(node.namespace, lambda: has_address(node.address))
    except StokerError as error:
        return Check(title, ok=False, found=str(error), remedy=f"ip netns add {node.namespace}, or run as root")
    where = f"namespace {node.namespace}"
    return Check(
        title,
        has_it,
        f"{where} has {node.address}" if has_it else f"{where} does not have {node.address}",
        f"give its underlay interface that address, or mend network.nodes.{name}.address",
    )


def _machine(name: str, node: NetworkNode) -> Check:
    title = f"network node {name}"
    if not has_address(node.address):
        return Check(title, ok=True, found=f"{node.address} is another machine's: its own `stoker doctor` looks there")
    may = sandbox.may_change()
    return Check(
        title,
        may,
        f"this machine ({node.address})"
        if may
        else f"this machine ({node.address}), whose network this user may not change",
        "run its workers as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN",
    )
