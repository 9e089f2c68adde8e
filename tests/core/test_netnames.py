"""What a network may be called and numbered, and what is refused, with the remedy that mends it."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core import netnames
from scheduler.core.netview import Floating, Host, Neighbour, NetworkView, Port
from scheduler.errors import Refused

NAMES = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
VNIS = st.integers(1, netnames.LAST_VNI)
PREFIXES = st.builds(
    lambda number, length: IPv4Network((10 << 24 | number, length), strict=False),
    st.integers(0, 2**24 - 1),
    st.integers(netnames.WIDEST, netnames.NARROWEST),
)
NO_NAMES = (
    "",
    "-a",
    "a-",
    "A",
    "a" * 64,
    "a_b",
    "a.b",
    "a b",
    "a;reboot",
    "$(id)",
    "a\n",
    "a\nb",
    "ä",
    "\uff41",
    "a/b",
    "..",
)
MAC = netnames.port_mac("a")


@pytest.mark.parametrize("text", NO_NAMES)
def test_bad_names_are_refused(text: str) -> None:
    with pytest.raises(Refused, match="expected 1 to 63"):
        netnames.name("network", text)


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "../etc", "-a", "a\n", "a b", "a;b", "x" * 64, "ä"])
def test_bad_namespaces_are_refused(text: str) -> None:
    with pytest.raises(Refused):
        netnames.namespace(text)


@pytest.mark.parametrize("text", ["", "a..b", ".a", "a.", "a b.c", "a\n.b", "a.b\n", ".".join(["a" * 63] * 3)])
def test_bad_domains_are_refused(text: str) -> None:
    with pytest.raises(Refused, match="domain"):
        netnames.domain(text)


@pytest.mark.parametrize("text", ["", "a" * 16, "eth0\n", "eth 0", "eth0/1", "../x", "-eth", "éth0"])
def test_bad_devices_are_refused(text: str) -> None:
    with pytest.raises(Refused, match="eth0"):
        netnames.device(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "10.1.0.0/24"),
        ("10.1.0.0", "first address"),
        ("10.1.0.7/24", "write 10.1.0.0/24"),
        ("10.1.0.0/255.255.255.0", "write 10.1.0.0/24"),
        ("10.1.0.0/24\n", "10.1.0.0/24"),
        ("\uff110.1.0.0/24", "10.1.0.0/24"),
        ("10.1.0.0/24; reboot", "address/length"),
        ("fd00::/64", "IPv4"),
        ("0.0.0.0/0", "8 to 29"),
        ("10.0.0.0/7", "write 10.0.0.0/7|8 to 29"),
        ("10.1.0.0/30", "8 to 29"),
        ("127.0.0.0/8", "127.0.0.0/8"),
        ("127.3.0.0/16", "127.0.0.0/8"),
        ("169.254.7.0/24", "169.254.0.0/16"),
        ("224.0.0.0/8", "224.0.0.0/4"),
        ("255.255.255.0/24", "240.0.0.0/4"),
        ("0.1.0.0/16", "0.0.0.0/8"),
        ("10.2.0.0/16", r"network other \(10.2.3.0/24\)"),
        ("10.2.3.128/25", "network other"),
    ],
)
def test_bad_prefixes_are_refused_with_what_to_write(text: str, says: str) -> None:
    with pytest.raises(Refused, match=says):
        netnames.prefix(text, {"other": "10.2.3.0/24"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("10.1.0.0", "the network's own"),
        ("10.1.0.1", "the gateway's"),
        ("10.1.0.255", "for everybody"),
        ("10.1.1.5", "outside.*10.1.0.2 to 10.1.0.254"),
        ("10.1.0.05", "IPv4 address"),
        ("10.1.0", "IPv4 address"),
        ("10.1.0.5\n", "IPv4 address"),
        ("\u0661\u0660.1.0.5", "IPv4 address"),
    ],
)
def test_addresses_that_no_interface_may_have(text: str, says: str) -> None:
    with pytest.raises(Refused, match=says):
        netnames.host_address(text, IPv4Network("10.1.0.0/24"))


@pytest.mark.parametrize(
    "text",
    [
        *("", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "52:54:00:12:34:56", "02:42:ac:11:00:02"),
        *(
            "02:53:74:AA:BB:CC",
            "02-53-74-aa-bb-cc",
            "02:53:74:aa:bb",
            "02:53:74:aa:bb:cc\n",
            "02:53:74:aa:bb:cc,ignore",
        ),
    ],
)
def test_foreign_macs_are_refused(text: str) -> None:
    with pytest.raises(Refused, match="02:53:74"):
        netnames.mac(text)


@pytest.mark.parametrize("number", [0, -1, 2**24, True])
def test_bad_vnis_are_refused(number: int) -> None:
    with pytest.raises(Refused, match="16777215"):
        netnames.vni(number)


@given(NAMES)
def test_good_names_come_back_as_given(text: str) -> None:
    assert netnames.name("network", text) == text


@given(PREFIXES, st.data())
def test_every_host_of_a_prefix_but_the_gateway_is_an_address(network: IPv4Network, data: st.DataObject) -> None:
    assert netnames.prefix(str(network)) == network
    assert netnames.gateway(network) in network
    offset = data.draw(st.integers(2, network.num_addresses - 2))
    host = network.network_address + offset
    assert netnames.host_address(str(host), network) == host


@given(PREFIXES, PREFIXES)
def test_of_two_prefixes_that_share_an_address_the_second_is_refused(one: IPv4Network, two: IPv4Network) -> None:
    share = one.network_address in two or two.network_address in one
    if share:
        with pytest.raises(Refused, match="no address of network"):
            netnames.prefix(str(one), {"two": str(two)})
    else:
        assert netnames.prefix(str(one), {"two": str(two)}) == one


@given(VNIS, VNIS)
def test_devices_of_a_network_fit_and_are_its_own(one: int, two: int) -> None:
    names = [make(number) for number in {one, two} for make in (netnames.bridge_device, netnames.tunnel_device)]
    assert len(set(names)) == len(names)
    assert all(len(name.encode()) <= netnames.DEVICE_MAX for name in names)


@given(NAMES, st.integers(0, 5))
def test_derived_ports_and_macs_are_valid_and_the_same_every_time(interface: str, attempt: int) -> None:
    device = netnames.port_device(7, interface)
    assert len(device.encode()) == netnames.DEVICE_MAX
    assert netnames.device(device) == netnames.port_device(7, interface)
    assert netnames.mac(netnames.port_mac(interface, attempt)) == netnames.port_mac(interface, attempt)


def test_no_two_of_many_interfaces_share_a_device() -> None:
    assert len({netnames.port_device(1 + number % 2, f"i-{number // 2}") for number in range(100_000)}) == 100_000


def test_only_the_bridge_of_the_gateway_has_the_same_mac_on_every_node() -> None:
    assert len({netnames.bridge_mac(7, node, is_gateway=True) for node in ("n1", "n2")}) == 1
    assert len({netnames.bridge_mac(7, node, is_gateway=gate) for node in ("n1", "n2") for gate in (True, False)}) == 3


def view(**changes: object) -> NetworkView:
    whole = {
        "name": "blue",
        "vni": 7,
        "prefix": "10.7.0.0/24",
        "node": "n1",
        "mtu": 1450,
        "domain": "blue.test",
        "peers": ("10.99.0.2",),
        "hosts": (Host(MAC, "10.7.0.5", "a"),),
        "ports": (Port("a", "ns", MAC),),
        "neighbours": (Neighbour(MAC, "10.99.0.2"),),
        "floating": (Floating("10.99.0.100", "10.7.0.5"),),
    }
    return NetworkView(**{**whole, **changes})  # type: ignore[arg-type]


def test_a_view_survives_json() -> None:
    assert view().gateway == "10.7.0.1"
    assert NetworkView.from_json(view().to_json()) == view()


@pytest.mark.parametrize(
    "make",
    [
        lambda: view(name="a b"),
        lambda: view(node="a\n"),
        lambda: view(domain="a b"),
        lambda: view(prefix="10.7.0.1/24"),
        lambda: view(peers=("10.99.0.2; reboot",)),
        lambda: view(hosts=(Host(MAC, "10.8.0.5", "a"),)),
        lambda: view(hosts=(Host(MAC, "10.7.0.5", "a"), Host(netnames.port_mac("b"), "10.7.0.5", "b"))),
        lambda: view(floating=(Floating("10.99.0.100", "10.8.0.5"),)),
        lambda: view(floating=(Floating("10.99.0.100", "10.7.0.5"), Floating("10.99.0.100", "10.7.0.6"))),
        lambda: view(ports=(Port("a", "ns", MAC), Port("b", "ns", netnames.port_mac("b")))),
        lambda: Host(MAC, "10.7.0.5", "a\n10.7.0.6 b"),
        lambda: Host("ff:ff:ff:ff:ff:ff", "10.7.0.5", "a"),
        lambda: Port("a", "../ns", MAC),
        lambda: Port("a", "ns", MAC, device="eth0 up"),
        lambda: Neighbour("52:54:00:12:34:56", "10.99.0.2"),
        lambda: Floating("10.99.0.100", "10.7.0.5 }"),
    ],
)
def test_what_is_not_valid_is_no_view(make: Callable[[], object]) -> None:
    with pytest.raises(Refused):
        make()
