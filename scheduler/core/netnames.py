"""What networks may be called and how they may be numbered, and the names that Linux sees, derived from those."""

from __future__ import annotations

import base64
import hashlib
import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from typing import TYPE_CHECKING, Final

from config.network import NAMESPACE_PATTERN
from config.profile import NAME_PATTERN
from scheduler.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

MAC_PREFIX: Final = "02:53:74"  # locally administered, unicast
BROADCAST_MAC: Final = "00:00:00:00:00:00"  # in a tunnel's table: where frames for everybody and for strangers go
DEVICE_MAX: Final = 15  # bytes that Linux keeps of an interface's name
LAST_VNI: Final = 2**24 - 1
WIDEST, NARROWEST = 8, 29

_NAME: Final = re.compile(NAME_PATTERN)
_NAMESPACE: Final = re.compile(NAMESPACE_PATTERN)
_DEVICE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,14}")
_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_DOMAIN_MAX: Final = 190  # with the longest name in front it is still a name that DNS can carry (253)
_NO_PLACE_FOR_A_NETWORK: Final = tuple(
    IPv4Network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")
)


def name(kind: str, text: str) -> str:
    """The name of a network, an instance or an interface, as given."""
    if not _NAME.fullmatch(text):
        raise Refused(
            f"{kind} name",
            expected="1 to 63 of a-z, 0-9 and -, with no - at an end",
            got=repr(text),
            remedy=f"rename the {kind}",
        )
    return text


def domain(text: str) -> str:
    """The DNS domain of a network: names with dots between."""
    if len(text) > _DOMAIN_MAX or not all(_NAME.fullmatch(label) for label in text.split(".")):
        raise Refused(
            "domain",
            expected=f"names of a-z, 0-9 and - with dots between, at most {_DOMAIN_MAX} characters",
            got=repr(text),
            remedy="rename it",
        )
    return text


def namespace(text: str) -> str:
    """The name of a network namespace: one file name, nothing that leads elsewhere."""
    if not text or not _NAMESPACE.fullmatch(text):
        raise Refused(
            "network namespace",
            expected="1 to 63 of a-z, A-Z, 0-9, '.', '_' and '-', starting with a letter or digit",
            got=repr(text),
            remedy="rename the namespace",
        )
    return text


def device(text: str) -> str:
    """The name of an interface as an instance sees it."""
    if not _DEVICE.fullmatch(text):
        raise Refused(
            "device",
            expected=f"1 to {DEVICE_MAX} of a-z, 0-9, '.', '_' and '-'",
            got=repr(text),
            remedy="call it eth0",
        )
    return text


def prefix(text: str, others: Mapping[str, str] | None = None) -> IPv4Network:
    """The addresses of a network, given the prefixes of the networks (by name) that it must not overlap."""
    try:
        network = IPv4Network(text, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        raise _bad_prefix(text, "an IPv4 prefix such as 10.1.0.0/24", "write it as address/length") from error
    if str(network) != text:
        raise _bad_prefix(text, "the first address of the prefix and its length", f"write {network}")
    if not WIDEST <= network.prefixlen <= NARROWEST:
        raise _bad_prefix(text, f"a length of {WIDEST} to {NARROWEST}", "choose another length")
    for reserved in _NO_PLACE_FOR_A_NETWORK:
        if network.overlaps(reserved):
            raise _bad_prefix(
                text, f"nothing of {reserved}, which hosts keep for themselves", "choose one of 10.0.0.0/8"
            )
    for other, taken in (others or {}).items():
        if network.overlaps(IPv4Network(taken)):
            raise _bad_prefix(text, f"no address of network {other} ({taken})", "choose a prefix beside it")
    return network


def gateway(network: IPv4Network) -> IPv4Address:
    """The address of the network's own router, name server and DHCP server: the first host."""
    return network.network_address + 1


def address(text: str) -> IPv4Address:
    """One IPv4 address, written in the usual way."""
    try:
        return IPv4Address(text)
    except AddressValueError as error:
        raise Refused("address", expected="an IPv4 address", got=repr(text), remedy="write it as 10.1.0.5") from error


def floating_address(text: str) -> IPv4Address:
    """An address of the underlay that may stand for an interface: one that others can reach."""
    found = address(text)
    for reserved in _NO_PLACE_FOR_A_NETWORK:
        if found in reserved:
            expected, got = "a unicast address that the nodes can be reached at", f"{found}, which is of {reserved}"
            raise Refused("floating address", expected=expected, got=got, remedy="choose one of the underlay")
    return found


def host_address(text: str, network: IPv4Network) -> IPv4Address:
    """An address that an interface of the network may have."""
    found = address(text)
    kept = {network.network_address: "the network's own", network.broadcast_address: "for everybody"}
    kept[gateway(network)] = "the gateway's"
    if found not in network or found in kept:
        got = f"{found}, which is {kept.get(found, 'outside')}"
        remedy = f"choose one of {gateway(network) + 1} to {network.broadcast_address - 1}"
        raise Refused("interface address", expected=f"a host of {network}", got=got, remedy=remedy)
    return found


def mac(text: str) -> str:
    """The MAC of an interface of ours, in lower case with colons."""
    if not _MAC.fullmatch(text) or not text.startswith(f"{MAC_PREFIX}:"):
        raise Refused(
            "MAC address",
            expected=f"one of Stoker's own, {MAC_PREFIX}:xx:xx:xx in lower case",
            got=repr(text),
            remedy="leave it to be derived from the interface",
        )
    return text


def vni(number: int) -> int:
    """The number of a network on the wire."""
    # A bool is an int to Python, and True would be network 1.
    if isinstance(number, bool) or not 1 <= number <= LAST_VNI:
        raise Refused("VNI", expected=f"1 to {LAST_VNI}", got=repr(number), remedy="choose a free number in that range")
    return number


def bridge_device(number: int) -> str:
    """The bridge of a network on any of its nodes."""
    return f"sb-{vni(number):06x}"


def tunnel_device(number: int) -> str:
    """The VXLAN interface of a network on any of its nodes."""
    return f"sx-{vni(number):06x}"


def port_device(number: int, interface: str) -> str:
    """The node's end of an interface of a network. 60 bits of a digest, which two share by chance among 2**30 of them."""
    return f"sv-{base64.b32encode(_digest(f'{vni(number)}/{interface}'))[:12].decode().lower()}"


def port_mac(interface: str, attempt: int = 0) -> str:
    """A MAC for an interface. Only 24 bits are free: when the network has that MAC already, take the next attempt's."""
    return ":".join((MAC_PREFIX, *(f"{byte:02x}" for byte in _digest(f"{interface}#{attempt}")[:3])))


def bridge_mac(number: int, node: str, *, is_gateway: bool) -> str:
    """The MAC of a network's bridge on a node.

    The gateway's moves with it from node to node, for hosts remember it. Everywhere else it is another one: a bridge
    keeps for itself what is sent to its own.
    """
    return port_mac(bridge_device(number) if is_gateway else f"{bridge_device(number)}@{node}")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _bad_prefix(text: str, expected: str, remedy: str) -> Refused:
    return Refused("network prefix", expected=expected, got=repr(text), remedy=remedy)
