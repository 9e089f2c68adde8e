"""Three nodes, two networks, six instances: addresses from DHCP, names from DNS, and who reaches whom."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from demo import lab_dns
from demo.lab import NODES, Lab, lab
from scheduler.core import netnames
from scheduler.core.netview import Floating, Host, Neighbour, NetworkView, Port
from tasks.network.sandbox import Sandbox
from tests.network.conformance import everything
from tests.support.eventually import eventually
from tests.support.netchild import RemoteDriver, remote

FLOATING = "10.99.0.100"
# Network, its number, the node of its gateway, and where its instances are.
NETWORKS = (
    ("blue", 0x20, "node1", {"blue-1": "node1", "blue-2": "node2", "blue-3": "node3"}),
    ("green", 0x21, "node2", {"green-1": "node1", "green-2": "node2", "green-3": "node2"}),
)
INSTANCES = tuple(name for *_, places in NETWORKS for name in places)


@dataclass
class Cloud:
    lab: Lab
    driver: RemoteDriver

    def views(self, network: int) -> list[NetworkView]:
        """The network as it should be, on each of its nodes."""
        name, vni, home, places = NETWORKS[network]
        macs = {instance: netnames.port_mac(instance) for instance in places}
        nodes = sorted({home, *places.values()})
        return [
            NetworkView(
                name=name,
                vni=vni,
                prefix=f"10.{vni}.0.0/24",
                node=node,
                mtu=self.lab.config.network_mtu,
                domain=f"{name}.test",
                serves_dhcp=node == home,
                peers=tuple(self.lab.address(other) for other in nodes if other != node),
                hosts=tuple(Host(macs[one], self.fixed(one), one) for one in places),
                ports=tuple(
                    Port(one, self.lab.namespace(one), macs[one]) for one, place in places.items() if place == node
                ),
                neighbours=tuple(
                    Neighbour(macs[one], self.lab.address(place)) for one, place in places.items() if place != node
                ),
                floating=(Floating(FLOATING, self.fixed("blue-2")),) if name == "blue" else (),
            )
            for node in nodes
        ]

    def fixed(self, instance: str) -> str:
        vni = next(vni for _, vni, _, places in NETWORKS if instance in places)
        return f"10.{vni}.0.{10 + int(instance[-1])}"

    def gateway(self, instance: str) -> str:
        return f"{self.fixed(instance).rpartition('.')[0]}.1"


@pytest.fixture(scope="module")
def cloud(box: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    state: Path = tmp_path_factory.mktemp("cloud")
    with lab(box) as made, remote(box, made.config, state) as driver:
        made.add(*INSTANCES)
        cloud = Cloud(made, driver)
        for view in (view for network in range(len(NETWORKS)) for view in cloud.views(network)):
            everything(driver, view)
        # A whole machine forwards by default: it is the rules that have to keep networks apart.
        for node in NODES:
            made.run(("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"), node)
        assert made.lease(*INSTANCES) == [cloud.fixed(one) for one in INSTANCES]
        yield cloud


def test_every_name_of_the_own_network_resolves_and_no_other(cloud: Cloud) -> None:
    for asker, asked in (("blue-1", "blue-3"), ("blue-3", "blue-2"), ("green-1", "green-3"), ("green-3", "green-1")):
        domain = f"{asked.split('-')[0]}.test"
        assert cloud.lab.resolve(asker, cloud.gateway(asker), f"{asked}.{domain}") == cloud.fixed(asked)
    assert cloud.lab.resolve("blue-1", cloud.gateway("blue-1"), "green-1.green.test").startswith("code")
    assert cloud.lab.resolve("blue-1", cloud.gateway("green-1"), "green-1.green.test", tries=1) == lab_dns.NOBODY


def test_ping_crosses_nodes_within_a_network(cloud: Cloud) -> None:
    for one, other in (("blue-1", "blue-2"), ("blue-3", "blue-1"), ("blue-2", "blue-3"), ("green-1", "green-3")):
        assert cloud.lab.ping(one, cloud.fixed(other))
    assert cloud.lab.run(("ip", "-br", "link", "show", "eth0"), "blue-1")
    # A full packet passes: the MTU is what the tunnel leaves.
    size = str(cloud.lab.config.network_mtu - 28)
    large = ("ping", "-c3", "-i0.3", "-W1", "-Mdo", "-s", size, cloud.fixed("blue-3"))
    assert ", 0 received" not in cloud.lab.run(large, "blue-1")


def test_nothing_crosses_networks_nor_reaches_a_node(cloud: Cloud) -> None:
    for one, other in (("blue-1", "green-1"), ("green-1", "blue-1"), ("green-2", "blue-2"), ("blue-2", "green-2")):
        assert not cloud.lab.ping(one, cloud.fixed(other), tries=1)
    # node1 has the gateway of blue; its own address is none of blue's business.
    assert cloud.lab.ping("blue-1", cloud.gateway("blue-1"))
    assert not cloud.lab.ping("blue-1", cloud.lab.address("node1"), tries=1)
    # Without a floating address there is no way out; with one there is.
    assert not cloud.lab.ping("blue-1", "10.99.0.254", tries=1)
    assert cloud.lab.ping("blue-2", "10.99.0.254")


def test_a_floating_address_answers_from_the_underlay_until_it_is_taken_away(cloud: Cloud) -> None:
    assert cloud.lab.ping("outside", FLOATING)
    assert cloud.lab.ping("blue-1", FLOATING), "within its own network, through the gateway"
    # Nobody gets in beside it, whatever routes they make.
    cloud.lab.batch("outside", f"route add 10.32.0.0/24 via {cloud.lab.address('node1')}")
    assert not cloud.lab.ping("outside", cloud.fixed("blue-2"), tries=1)
    home = next(view for view in cloud.views(0) if view.serves_dhcp)
    cloud.driver.converge_floating(replace(home, floating=()))
    assert not cloud.lab.ping("outside", FLOATING, tries=1)
    assert not cloud.lab.ping("blue-2", "10.99.0.254", tries=1)
    moved = replace(home, floating=(Floating(FLOATING, cloud.fixed("blue-3")),))
    cloud.driver.converge_floating(moved)
    assert cloud.lab.ping("outside", FLOATING)
    assert cloud.lab.ping("blue-3", "10.99.0.254")
    cloud.driver.converge_floating(home)


def test_an_address_given_to_another_instance_is_leased_to_that_one(cloud: Cloud) -> None:
    """Through dnsmasq's death and a reload: the lease of who had it before is in its way."""
    cloud.lab.add("blue-9")
    (home,) = (view for view in cloud.views(0) if view.serves_dhcp)
    (gone,) = home.ports
    mac = netnames.port_mac("blue-9")
    hosts = tuple(host for host in home.hosts if host.mac != gone.mac)
    new = replace(
        home,
        hosts=(*hosts, Host(mac, cloud.fixed("blue-1"), "ignore")),  # in dnsmasq's own file that would be an order
        ports=(Port("blue-9", cloud.lab.namespace("blue-9"), mac),),
    )
    cloud.driver.unplug_interface(home, gone.interface)
    everything(cloud.driver, new)
    assert cloud.lab.lease("blue-9") == [cloud.fixed("blue-1")]
    assert cloud.lab.resolve("blue-2", cloud.gateway("blue-2"), "ignore.blue.test") == cloud.fixed("blue-1")
    os.kill(cloud.lab.dnsmasqs("node1")[0], signal.SIGKILL)
    eventually(lambda: not cloud.lab.dnsmasqs("node1"), "it is dead", within_s=10)
    cloud.driver.unplug_interface(new, "blue-9")
    everything(cloud.driver, home)
    assert cloud.lab.lease("blue-1") == [cloud.fixed("blue-1")]
    assert cloud.lab.ping("blue-3", cloud.fixed("blue-1"))
