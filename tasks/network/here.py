"""Which nodes this machine is, or plays: what a driver does for any other node it would do to the wrong machine."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.network import NetworkNode


def is_here(node: NetworkNode, driver: str) -> bool:
    """Whether the driver of this machine can see the node. A dry run's nodes are files, and all of them are here."""
    if driver == "dry_run":
        return True
    if node.namespace:
        from tasks.network.linux_namespaces import NAMESPACES  # noqa: PLC0415 - of Linux alone

        return (NAMESPACES / node.namespace).exists()
    return has_address(node.address)


def has_address(address: str) -> bool:
    """Whether an interface has the address, in the network namespace of this thread."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
