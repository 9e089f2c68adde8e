"""The settings of networks: what holds together, and what is refused with the key and the remedy."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from config.network import Network


def test_without_a_word_there_is_one_node_and_nothing_is_touched() -> None:
    network = Network()
    assert network.driver == "dry_run"
    assert list(network.nodes) == ["node1"]
    assert (network.mtu, network.network_mtu, network.vxlan_port) == (1500, 1450, 4789)


def test_nodes_may_be_namespaces_of_one_machine() -> None:
    nodes = {f"n{number}": {"address": f"10.99.0.{number}", "namespace": f"ns.{number}"} for number in (1, 2)}
    assert Network(driver="linux", nodes=nodes).nodes["n2"].namespace == "ns.2"


def test_nodes_may_be_machines() -> None:
    assert len(Network(nodes={"a": {"address": "10.0.0.1"}, "b": {"address": "10.0.0.2"}}).nodes) == 2


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"driver": "windows"}, "dry_run"),
        ({"mtu": 600}, "626"),
        ({"mtu": 65_536}, "9216"),
        ({"vxlan_port": 0}, "vxlan_port"),
        ({"vxlan_port": 65_536}, "65535"),
        ({"nodes": {}}, "nodes"),
        ({"nodes": {"a b": {"address": "10.0.0.1"}}}, "pattern"),
        ({"nodes": {"a": {"address": "10.0.0"}}}, "10.0.0"),
        ({"nodes": {"a": {"address": "fd00::1"}}}, "fd00::1"),
        ({"nodes": {"a": {"address": "224.0.0.1"}}}, "unicast"),
        ({"nodes": {"a": {"address": "0.0.0.0"}}}, "unicast"),  # noqa: S104 - refused
        ({"nodes": {"a": {"address": "10.0.0.1", "namespace": "../x"}}}, "namespace"),
        ({"nodes": {"a": {"address": "10.0.0.1", "namespace": "a\n"}}}, "namespace"),
        ({"nodes": {"a": {"address": "10.0.0.1", "device": "eth0"}}}, "unknown key 'device'"),
        (
            {"nodes": {"a": {"address": "10.0.0.1", "namespace": "x"}, "b": {"address": "10.0.0.1", "namespace": "y"}}},
            "nodes.b.address = '10.0.0.1' is also that of nodes.a; give every node an address",
        ),
        (
            {"nodes": {"a": {"address": "10.0.0.1", "namespace": "x"}, "b": {"address": "10.0.0.2", "namespace": "x"}}},
            "nodes.b.namespace = 'x' is also that of nodes.a; give every node a namespace",
        ),
        ({"vxlan_prot": 1}, "did you mean 'vxlan_port'"),
    ],
)
def test_what_does_not_hold_together_is_refused(sections: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Network(**sections)
