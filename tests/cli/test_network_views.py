"""What people see of networks: what is wanted, and every difference marked."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from config.network import Network
from config.settings import Settings
from scheduler.errors import Temporary
from tasks.cli import network_checks, network_views
from tasks.network import sandbox
from tasks.network.here import has_address, is_here

INTERFACE = {"name": "web1", "node": "n2", "namespace": "web1", "mac": "02:53:74:00:00:01", "address": "10.1.0.2"}
NOTHING: dict[str, Any] = {"ports": [], "bridge": "sb-000001"}


def look(node: str, *differences: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"node": node, "observed": NOTHING, "why": None, "differences": list(differences), **more}


def network(*seen: dict[str, Any], wanted: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "name": "blue",
        "vni": 1,
        "prefix": "10.1.0.0/24",
        "gateway_node": "n1",
        "wanted": wanted,
        "nodes": [one["node"] for one in seen],
        "interfaces": [{**INTERFACE, "id": 5, "floating": "10.99.0.50"}],
        "seen": list(seen),
        **more,
    }


def shown(*networks: dict[str, Any], width: int = 100) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(network_views.networks(networks), highlight=False)
    assert max(map(len, file.getvalue().splitlines())) <= width
    return " ".join(file.getvalue().split())


def test_a_network_that_is_as_it_should_be_says_so() -> None:
    text = shown(network(look("n1"), look("n2", observed={**NOTHING, "ports": ["if-5"]})))
    assert "blue 10.1.0.0/24 VNI 1 gateway on n1" in text
    assert "web1 n2 10.1.0.2 10.99.0.50 02:53:74:00:00:01 web1 yes" in text
    assert text.count("as it should be") == 2


def test_each_difference_is_marked_by_the_name_people_know() -> None:
    text = shown(
        network(
            look(
                "n2",
                {"what": "ports", "missing": ["if-5"], "extra": ["if-4"]},
                {"what": "hosts", "missing": [("02:53:74:00:00:01", "10.1.0.2")], "extra": []},
                {"what": "floating", "missing": [], "extra": [{"address": "10.99.0.9", "fixed": "10.1.0.9"}]},
                {"what": "dnsmasq", "missing": [0], "extra": []},
            )
        )
    )
    assert "web1 n2 10.1.0.2 10.99.0.50 02:53:74:00:00:01 web1 NO" in text
    assert "on n2: differs" in text
    assert "- port web1 (if-5) is missing" in text
    assert "+ port if-4 is not wanted" in text
    assert "- DHCP host 02:53:74:00:00:01 = 10.1.0.2 is missing" in text
    assert "+ floating address 10.99.0.9 = 10.1.0.9 is not wanted" in text
    assert "- dnsmasq is missing" in text


def test_what_cannot_be_seen_from_here_is_no_difference() -> None:
    text = shown(network(look("n2", observed=None, why="another machine's")))
    assert "not seen: another machine's" in text
    assert "web1 not seen" in text


def test_one_that_is_being_deleted_says_so() -> None:
    text = shown(network(look("n1"), wanted=False, interfaces=[]))
    assert "being deleted" in text
    assert "on n1: gone" in text
    assert shown() == "networks: none"


@pytest.mark.parametrize("width", [30, 60, 80, 200])
def test_no_terminal_is_too_narrow_for_networks(width: int) -> None:
    assert "blue" in shown(network(look("n1"), look("n2")), width=width)


def test_a_node_is_here_if_its_address_is_or_if_nothing_is_made_anyway() -> None:
    nodes = Network(nodes={"near": {"address": "127.0.0.1"}, "far": {"address": "192.0.2.77"}}).nodes
    assert has_address("127.0.0.1")
    assert [is_here(node, "linux") for node in nodes.values()] == [True, False]
    assert [is_here(node, "dry_run") for node in nodes.values()] == [True, True]


def test_a_dry_run_needs_nothing() -> None:
    (check,) = network_checks.networks(Network())
    assert check.ok
    assert "dry_run" in check.found


@pytest.mark.parametrize("way", ["root", None])
def test_the_doctor_says_what_keeps_the_driver_from_working(monkeypatch: pytest.MonkeyPatch, way: Any) -> None:
    monkeypatch.setattr(sandbox, "ways", lambda: sandbox.Way(way, "for a reason"))
    monkeypatch.setattr(sandbox, "may_change", lambda: way == "root")
    nodes = {"near": {"address": "127.0.0.1"}, "far": {"address": "192.0.2.77"}}
    driver, near, far = network_checks.networks(Network(driver="linux", nodes=nodes))
    assert [driver.ok, near.ok, far.ok] == [way == "root", way == "root", True]
    assert "for a reason" in driver.found
    assert "nftables" in driver.remedy
    assert "another machine" in far.found


def test_the_doctor_misses_a_namespace_and_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def inside(namespace: str, work: Any) -> Any:
        if namespace == "absent":
            raise Temporary("network namespace absent", expected="one", got="none", remedy="add it")
        return work()

    linux = pytest.importorskip("tasks.network.linux_namespaces")
    monkeypatch.setattr(linux, "inside", inside)
    monkeypatch.setattr(sandbox, "ways", lambda: sandbox.Way("root", ""))
    nodes = {
        "there": {"address": "127.0.0.1", "namespace": "a"},
        "absent": {"address": "10.99.0.2", "namespace": "absent"},
        "elsewhere": {"address": "192.0.2.77", "namespace": "c"},
    }
    _, there, absent, elsewhere = network_checks.networks(Network(driver="linux", nodes=nodes))
    assert [there.ok, absent.ok, elsewhere.ok] == [True, False, False]
    assert "ip netns add absent" in absent.remedy
    assert "does not have 192.0.2.77" in elsewhere.found


def test_the_doctor_adds_up_how_long_a_hand_over_takes() -> None:
    check = network_checks.leases(Settings())
    assert check.ok
    assert "lease 15 + sweep 10 + look 15 = 40 <= 60 s" in check.found
