"""The driver of the kernel's own devices: the common suite, what it must leave alone, and what it must survive."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from demo.lab import Lab
from scheduler.core import netnames
from scheduler.core.netview import Floating, Host, Port
from scheduler.errors import Permanent, Temporary
from tasks.network import Observed
from tests.network.conformance import NODE, VNI, DriverCase, DriverConformance, as_wanted, everything
from tests.support.eventually import eventually
from tests.support.netchild import RemoteDriver

Drivers = tuple[RemoteDriver, RemoteDriver]
KILLS = 60
BRIDGE, TUNNEL = netnames.bridge_device(VNI), netnames.tunnel_device(VNI)


@pytest.fixture
def case(net: Lab, drivers: Drivers) -> Iterator[DriverCase]:
    yield DriverCase(drivers[0], lambda: drivers[1], (net.namespace("one"), net.namespace("two")))
    servers = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in net.dnsmasqs(NODE)]
    assert len(servers) == len(set(servers)), "two dnsmasq of one network"


class TestLinux(DriverConformance):
    """On real devices."""


def test_what_is_not_ours_is_left_alone(net: Lab, case: DriverCase) -> None:
    net.batch(
        NODE,
        "link add name foreign0 type bridge",
        "link add name foreign1 type vxlan id 77 dstport 4789 local 10.99.0.1",
        "link set foreign1 up master foreign0",
        f"address add 10.99.0.{100 + VNI}/32 dev foreign0",
    )
    net.run(("bridge", "fdb", "append", netnames.BROADCAST_MAC, "dev", "foreign1", "dst", "10.99.0.77"), NODE)
    net.run(("bridge", "fdb", "append", "02:53:74:00:00:01", "dev", "foreign1", "dst", "10.99.0.78"), NODE)
    foreign = (
        "table inet foreign {\n\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n\t}\n}\n"
    )
    net.run(("nft", "-f", "-"), NODE, given=foreign)
    # Counters and what is learnt come and go.
    watched = (
        ("ip", "-br", "link", "show", "foreign0"),
        ("ip", "-br", "link", "show", "foreign1"),
        ("ip", "-br", "-4", "address", "show", "foreign0"),
        ("bridge", "fdb", "show", "dev", "foreign1"),
        ("nft", "list", "table", "inet", "foreign"),
    )
    before = [net.run(argv, NODE) for argv in watched]
    try:
        case.everything(case.view())
        assert [net.run(argv, NODE) for argv in watched] == before
        case.driver.delete_network(NODE, VNI, "blue")
        assert [net.run(argv, NODE) for argv in watched] == before
    finally:
        net.batch(NODE, "link del foreign1", "link del foreign0")
        net.run(("nft", "delete", "table", "inet", "foreign"), NODE)


def test_foreign_devices_under_our_names_are_not_taken_over(net: Lab, case: DriverCase) -> None:
    net.batch(NODE, f"link add name {BRIDGE} type veth peer name foreign9")
    try:
        with pytest.raises(Permanent, match="expected a bridge of Stoker's; got a veth"):
            case.driver.create_network(case.view())
        with pytest.raises(Permanent):
            case.driver.delete_network(NODE, VNI, "blue")
    finally:
        net.batch(NODE, f"link del {BRIDGE}")
    net.batch("one", "link add name eth0 type veth peer name foreign9")
    try:
        with pytest.raises(Permanent, match="somebody else's"):
            case.driver.plug_interface(case.view(), "a")
    finally:
        net.batch("one", "link del eth0")
    case.driver.plug_interface(case.view(), "a")


def test_an_instance_that_is_not_there_yet_is_waited_for(net: Lab, case: DriverCase) -> None:
    view = replace(case.view(), ports=(Port("a", net.namespace("late"), netnames.port_mac("a")),))
    with pytest.raises(Temporary, match="ip netns add"):
        case.driver.plug_interface(view, "a")
    net.add("late")
    case.driver.plug_interface(view, "a")
    # The instance ends and begins again: its end of the pair went with it.
    net.batch(None, f"netns delete {net.namespace('late')}", f"netns add {net.namespace('late')}")
    assert case.driver.plug_interface(view, "a")
    assert case.driver.plug_interface(view, "a") == ()


def test_what_somebody_bent_is_straightened(net: Lab, case: DriverCase) -> None:
    view = case.view()
    case.everything(view)
    port = netnames.port_device(VNI, "a")
    net.batch(
        NODE,
        f"link set {port} nomaster down",
        f"link set {BRIDGE} mtu 1400",
        f"address del {view.gateway}/24 dev {BRIDGE}",
        f"address add 10.9.9.9/24 dev {BRIDGE}",
        f"address add 10.99.0.9/32 dev {BRIDGE}",
        f"link set {TUNNEL} down",
    )
    net.run(("bridge", "fdb", "append", netnames.BROADCAST_MAC, "dev", TUNNEL, "dst", "10.99.0.77"), NODE)
    net.run(("nft", "flush", "chain", "inet", f"stoker-{VNI:06x}", "to_node"), NODE)
    net.run(("nft", "flush", "map", "inet", f"stoker-{VNI:06x}", "to_floating"), NODE)
    net.batch("two", "link set eth0 down mtu 1400")
    assert {change.kind for change in case.everything(view)} == {
        *("bridge", "tunnel", "port", "mesh", "rules", "floating"),
    }
    assert as_wanted(case.observe(), view)
    assert case.everything(view) == ()
    net.batch(NODE, f"link del {TUNNEL}", f"link add {TUNNEL} type vxlan id {VNI} dstport 4790 local 10.99.0.1")
    assert {change.kind for change in case.driver.create_network(view)} == {"tunnel", "mesh"}
    assert as_wanted(case.observe(), view)


def test_dnsmasq_that_was_killed_is_started_again(net: Lab, case: DriverCase) -> None:
    view = case.view()
    case.driver.update_dnsmasq(view)
    (first,) = net.dnsmasqs(NODE)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: not net.dnsmasqs(NODE), "it is dead", within_s=10)
    assert [str(change) for change in case.driver.update_dnsmasq(view)] == ["dnsmasq: started"]
    (second,) = net.dnsmasqs(NODE)
    assert case.observe().dnsmasq == second != first
    more = replace(view, hosts=(*view.hosts, Host(netnames.port_mac("c"), f"10.{VNI}.0.7", "c")))
    assert [str(change) for change in case.driver.update_dnsmasq(more)] == ["dnsmasq: reloaded"]
    assert case.driver.update_dnsmasq(more) == ()
    # Another command line is another process; so is another bridge under the same name.
    renamed = replace(more, domain="red.test")
    assert [str(change) for change in case.driver.update_dnsmasq(renamed)] == ["dnsmasq: stopped", "dnsmasq: started"]
    net.batch(NODE, f"link del {BRIDGE}")
    assert "dnsmasq: started" in [str(change) for change in case.driver.update_dnsmasq(renamed)]
    assert len(net.dnsmasqs(NODE)) == 1


def test_a_killed_call_leaves_nothing_that_the_next_cannot_finish(net: Lab, case: DriverCase, drivers: Drivers) -> None:
    view, rng, killed = case.view(), random.Random(7), 0
    moved = replace(view, floating=(Floating("10.99.0.90", f"10.{VNI}.0.6"),), hosts=view.hosts[:1])
    steps = [
        *(("create_network", view), ("ensure_mesh", view), ("update_dnsmasq", view), ("plug_interface", view, "a")),
        *(("plug_interface", view, "b"), ("converge_floating", view), ("update_dnsmasq", moved)),
        *(("converge_floating", moved), ("unplug_interface", view, "b"), ("delete_network", NODE, VNI, "blue")),
    ]
    for round_number in range(KILLS):
        method, *args = steps[round_number % len(steps)]
        killed += drivers[0].call(method, *args, killed_after_s=rng.uniform(0.001, 0.03))
        if rng.random() < 0.25:
            everything(drivers[1], view)
            assert as_wanted(case.observe(), view)
            assert everything(drivers[1], view) == ()
            assert len(net.dnsmasqs(NODE)) == 1
    assert killed > KILLS / 4, "the calls were over before they could be killed"
    everything(drivers[1], view)
    assert as_wanted(case.observe(), view)
    drivers[1].delete_network(NODE, VNI, "blue")
    assert case.observe() == Observed()
    assert net.dnsmasqs(NODE) == []
    names = {link["ifname"] for link in json.loads(net.run(("ip", "-j", "link"), NODE))}
    assert not {name for name in names if name.startswith(("sb-", "sx-", "sv-"))}
    assert "stoker" not in net.run(("nft", "list", "tables"), NODE)
