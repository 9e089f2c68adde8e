"""Where networks live: the machines (or the namespaces that play them) and what carries frames between them."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from config.frozen import Frozen
from config.profile import Name

VXLAN_OVERHEAD: Final = 50  # Ethernet 14 + IPv4 20 + UDP 8 + VXLAN 8
# What DHCP promises to carry is 576; below that, names and leases no longer fit.
_LEAST_MTU: Final = 576 + VXLAN_OVERHEAD
_MOST_MTU: Final = 9_216
NAMESPACE_PATTERN: Final = r"^([a-zA-Z0-9][a-zA-Z0-9._-]{0,62})?$"


def _unicast(text: str) -> str:
    address = ipaddress.IPv4Address(text)
    if address.is_multicast or address.is_unspecified or address.is_reserved:
        msg = f"address {text} is no node's own; give the unicast address that the other nodes reach it at"
        raise ValueError(msg)
    return str(address)


class NetworkNode(Frozen):
    """One machine that carries networks."""

    address: Annotated[str, AfterValidator(_unicast)]  # IPv4, on the underlay
    namespace: str = Field(default="", pattern=NAMESPACE_PATTERN)  # that plays the node; empty = the machine's own


class Network(Frozen):
    """How networks are made, and on which nodes."""

    driver: Literal["dry_run", "linux"] = "dry_run"
    mtu: int = Field(default=1_500, ge=_LEAST_MTU, le=_MOST_MTU)  # of the underlay
    vxlan_port: int = Field(default=4_789, ge=1, le=65_535)
    nodes: dict[Name, NetworkNode] = Field(
        default_factory=lambda: {"node1": NetworkNode(address="127.0.0.1")}, min_length=1
    )

    @model_validator(mode="after")
    def _nodes_are_apart(self) -> Self:
        for what in ("address", "namespace"):
            seen: dict[str, str] = {}
            for name, node in self.nodes.items():
                value = getattr(node, what)
                other = seen.setdefault(value, name)
                # Any number of machines are their own.
                if value and other != name:
                    msg = (
                        f"nodes.{name}.{what} = {value!r} is also that of nodes.{other};"
                        f" give every node {'an address' if what == 'address' else 'a namespace'} of its own"
                    )
                    raise ValueError(msg)
        return self

    @property
    def network_mtu(self) -> int:
        """The largest packet inside a network: what the tunnel leaves of the underlay's."""
        return self.mtu - VXLAN_OVERHEAD
