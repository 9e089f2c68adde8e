"""The steps of network operations: each reads what is wanted now and makes its node so, whoever asked and how often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from celery import shared_task

from config.names import (
    ADD_FLOATING_STEP,
    CREATE_NETWORK_STEP,
    DELETE_NETWORK_STEP,
    ENSURE_MESH_STEP,
    FORGET_NETWORK_STEP,
    PLUG_STEP,
    REMOVE_FLOATING_STEP,
    UNPLUG_STEP,
    UPDATE_DNSMASQ_STEP,
)
from scheduler.store import networks
from tasks.context import current
from tasks.operations import StepTask

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduler.core.netview import NetworkView

# All steps of one network on one node are one lane: they write the same bridge, tunnel and files.
_LANE: Final = ("network", "node")


@shared_task(base=StepTask, name=CREATE_NETWORK_STEP, key=_LANE, lane=_LANE, barrier=True)
def create_network(network: str, node: str) -> list[str]:
    """Bridge, tunnel and, where its gateway is, the gateway's address."""
    view = _view(network, node)
    return _said(current().network_driver.create_network(view)) if view else []


@shared_task(base=StepTask, name=ENSURE_MESH_STEP, key=_LANE, lane=_LANE)
def ensure_mesh(network: str, node: str) -> list[str]:
    """Which other nodes have the network, and which MAC is behind which."""
    view = _view(network, node)
    return _said(current().network_driver.ensure_mesh(view)) if view else []


@shared_task(base=StepTask, name=UPDATE_DNSMASQ_STEP, key=_LANE, lane=_LANE)
def update_dnsmasq(network: str, node: str) -> list[str]:
    """Who gets which address and name."""
    view = _view(network, node)
    return _said(current().network_driver.update_dnsmasq(view)) if view else []


@shared_task(base=StepTask, name=PLUG_STEP, key=(*_LANE, "interface"), lane=_LANE)
def plug_interface(network: str, node: str, interface: str) -> list[str]:
    """The instance's interface, if it is wanted still."""
    view = _view(network, node)
    port = view and view.port_of(interface)
    return _said(current().network_driver.plug_interface(view, port)) if view and port else []


@shared_task(base=StepTask, name=UNPLUG_STEP, key=(*_LANE, "interface"), lane=_LANE)
def unplug_interface(network: str, node: str, interface: str) -> list[str]:
    """Whatever of this name nobody wants any more."""
    context = current()
    view, ports = _view(network, node), networks.unwanted_ports(context.db, network, node, interface)
    said = [line for port in ports if view for line in _said(context.network_driver.unplug_interface(view, port))]
    networks.forget_ports(context.db, ports)
    return said


@shared_task(base=StepTask, name=ADD_FLOATING_STEP, key=(*_LANE, "address"), lane=_LANE)
def add_floating_ip(network: str, node: str, address: str) -> list[str]:
    """All floating addresses of the network, this one among them."""
    del address
    return _floating(network, node)


@shared_task(base=StepTask, name=REMOVE_FLOATING_STEP, key=(*_LANE, "address"), lane=_LANE)
def remove_floating_ip(network: str, node: str, address: str) -> list[str]:
    """All floating addresses of the network, without this one."""
    del address
    return _floating(network, node)


@shared_task(base=StepTask, name=DELETE_NETWORK_STEP, key=_LANE, lane=_LANE, barrier=True)
def delete_network(network: str, node: str) -> list[str]:
    """Everything of the network on the node, unless it is wanted again."""
    context = current()
    vni = networks.vni(context.db, network)
    if vni is None or networks.is_wanted(context.db, network):
        return []
    return _said(context.network_driver.delete_network(node, vni, network))


@shared_task(base=StepTask, name=FORGET_NETWORK_STEP, key=_LANE, lane=_LANE, barrier=True)
def forget_network(network: str, node: str) -> list[str]:
    """The last of it: name, number and prefix are free."""
    del node
    networks.forget(current().db, network)
    return []


def _floating(network: str, node: str) -> list[str]:
    view = _view(network, node)
    return _said(current().network_driver.converge_floating(view)) if view else []


def _view(network: str, node: str) -> NetworkView | None:
    context = current()
    return networks.view(context.db, network, node, context.underlay)


def _said(changes: Iterable[object]) -> list[str]:
    return [str(change) for change in changes]
