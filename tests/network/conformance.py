"""What every network driver must do. A driver's test file subclasses it and provides `case`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest

from scheduler.core import netnames
from scheduler.core.netview import Floating, Host, Neighbour, NetworkView, Port
from scheduler.errors import Refused
from tasks.network import Changes, Driver, Observed

VNI = 0x1A
NODE = "node1"
_A, _B, _REMOTE = (netnames.port_mac(name) for name in ("a", "b", "remote"))


@dataclass
class DriverCase:
    """One driver under test; the namespaces of two instances exist."""

    driver: Driver
    another: Callable[[], Driver]  # in another process or not, on the same state
    instances: tuple[str, str]

    def view(self, vni: int = VNI) -> NetworkView:
        one, two = self.instances
        return NetworkView(
            name="blue",
            vni=vni,
            prefix=f"10.{vni}.0.0/24",
            node=NODE,
            mtu=1450,
            domain="blue.test",
            serves_dhcp=True,
            peers=("10.99.0.3", "10.99.0.2"),
            hosts=(Host(_A, f"10.{vni}.0.5", "a"), Host(_B, f"10.{vni}.0.6", "b")),
            ports=(Port("a", one, _A), Port("b", two, _B)),
            neighbours=(Neighbour(_REMOTE, "10.99.0.2"),),
            floating=(Floating(f"10.99.0.{100 + vni}", f"10.{vni}.0.5"),),
        )

    def observe(self, vni: int = VNI) -> Observed:
        return self.driver.observe(NODE, vni)

    def everything(self, view: NetworkView) -> Changes:
        return everything(self.driver, view)


def everything(driver: Driver, view: NetworkView) -> Changes:
    """Every step of a network on a node."""
    changes = driver.create_network(view) + driver.ensure_mesh(view) + driver.update_dnsmasq(view)
    for port in view.ports:
        changes += driver.plug_interface(view, port.interface)
    return changes + driver.converge_floating(view)


def as_wanted(seen: Observed, view: NetworkView) -> bool:
    """Whether a node is what the view of the node of the gateway says."""
    return seen == Observed(
        bridge=netnames.bridge_device(view.vni),
        gateway=view.gateway,
        tunnel=netnames.tunnel_device(view.vni),
        peers=tuple(sorted(view.peers)),
        neighbours=view.neighbours,
        ports=tuple(sorted(port.interface for port in view.ports)),
        dnsmasq=seen.dnsmasq,
        hosts=tuple(sorted((host.mac, host.address) for host in view.hosts)),
        floating=view.floating,
    ) and (seen.dnsmasq is not None)


class DriverConformance:
    """The suite. `case` is a fixture of the subclass or of its file."""

    def test_where_nothing_was_made_there_is_nothing(self, case: DriverCase) -> None:
        assert case.observe() == Observed()

    def test_all_steps_make_the_node_what_the_view_says_and_again_they_change_nothing(self, case: DriverCase) -> None:
        view = case.view()
        changes = case.everything(view)
        assert {change.kind for change in changes} >= {"bridge", "tunnel", "mesh", "port", "dnsmasq", "floating"}
        assert as_wanted(case.observe(), view)
        assert case.everything(view) == ()
        assert case.everything(replace(view, peers=view.peers[::-1], hosts=view.hosts[::-1])) == ()
        assert everything(case.another(), view) == ()

    def test_a_port_comes_before_its_network(self, case: DriverCase) -> None:
        view = case.view()
        changes = case.driver.plug_interface(view, "a")
        assert {"bridge", "tunnel", "port"} <= {change.kind for change in changes}
        assert case.observe().ports == ("a",)
        assert case.driver.create_network(view) == ()

    def test_what_the_view_no_longer_says_goes(self, case: DriverCase) -> None:
        view = case.view()
        case.everything(view)
        less = replace(
            view, peers=("10.99.0.3",), hosts=view.hosts[:1], ports=view.ports[:1], neighbours=(), floating=()
        )
        case.driver.unplug_interface(view, "b")
        assert {change.kind for change in case.everything(less)} == {"mesh", "dnsmasq", "floating"}
        assert as_wanted(case.observe(), less)
        assert case.driver.unplug_interface(less, "b") == ()
        case.everything(view)
        assert as_wanted(case.observe(), view)

    def test_the_gateway_moves_to_another_node(self, case: DriverCase) -> None:
        view = case.view()
        case.everything(view)
        elsewhere = replace(view, serves_dhcp=False)
        case.everything(elsewhere)
        seen = case.observe()
        assert (seen.gateway, seen.dnsmasq, seen.floating) == (None, None, ())
        assert case.everything(elsewhere) == ()

    def test_delete_leaves_nothing_and_spares_the_neighbours(self, case: DriverCase) -> None:
        blue, green = case.view(), replace(case.view(VNI + 1), name="green", ports=())
        case.everything(blue)
        case.everything(green)
        assert case.driver.delete_network(NODE, VNI, "blue")
        assert case.observe() == Observed()
        assert as_wanted(case.observe(VNI + 1), green)
        assert case.everything(green) == ()
        assert case.driver.delete_network(NODE, VNI, "blue") == ()
        case.everything(blue)
        assert as_wanted(case.observe(), blue)

    def test_an_interface_of_another_network_may_have_the_same_name(self, case: DriverCase) -> None:
        blue = case.view()
        green = replace(case.view(VNI + 1), name="green", ports=(replace(blue.ports[0], device="eth1"),))
        case.driver.plug_interface(blue, "a")
        case.driver.plug_interface(green, "a")
        assert (case.observe().ports, case.observe(VNI + 1).ports) == (("a",), ("a",))
        case.driver.unplug_interface(green, "a")
        assert (case.observe().ports, case.observe(VNI + 1).ports) == (("a",), ())

    def test_an_interface_that_the_view_does_not_have_is_refused(self, case: DriverCase) -> None:
        with pytest.raises(Refused, match="interface c"):
            case.driver.plug_interface(case.view(), "c")
        with pytest.raises(Refused, match=r"network\.nodes"):
            case.driver.create_network(replace(case.view(), node="node9"))
        assert case.observe() == Observed()

    def test_two_at_once_are_as_good_as_one(self, case: DriverCase) -> None:
        view = case.view()
        drivers = [case.driver, case.another()]
        with ThreadPoolExecutor(2) as both:
            changes = [change for made in both.map(lambda one: everything(one, view), drivers) for change in made]
        assert len(changes) == len(set(changes)), "something was made twice"
        assert as_wanted(case.observe(), view)
