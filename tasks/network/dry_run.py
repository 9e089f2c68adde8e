"""Networks that are only written down: what the linux driver would do, where nothing may be done."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any, Final

from scheduler.core import netnames
from scheduler.core.netview import Floating, Neighbour
from scheduler.errors import Refused
from tasks.network.base import Change, Changes, Observed
from tasks.network.fence import Fence, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from config.network import Network
    from scheduler.core.netview import NetworkView

_KINDS: Final = {
    "bridge": "bridge",
    "gateway": "bridge",
    "tunnel": "tunnel",
    "peers": "mesh",
    "neighbours": "mesh",
    "ports": "port",
    "dnsmasq": "dnsmasq",
    "hosts": "dnsmasq",
    "floating": "floating",
}


class DryRunDriver:
    """Keeps one JSON file for each network of a node. Needs no rights, on any platform."""

    name: Final = "dry_run"

    def __init__(self, config: Network, state_dir: Path) -> None:
        self._config = config
        self._fence = Fence(state_dir.resolve() / "network")

    def create_network(self, view: NetworkView) -> Changes:
        """Writes down the bridge and the tunnel."""
        return self._converge(view, lambda _: {})

    def ensure_mesh(self, view: NetworkView) -> Changes:
        """Writes down the tunnel's table."""
        neighbours = tuple(sorted(view.neighbours, key=lambda one: one.mac))
        return self._converge(view, lambda _: {"peers": tuple(sorted(view.peers)), "neighbours": neighbours})

    def update_dnsmasq(self, view: NetworkView) -> Changes:
        """Writes down the server and its hosts."""
        hosts = tuple(sorted((host.mac, host.address) for host in view.hosts))
        serving = {"dnsmasq": 0, "hosts": hosts} if view.serves_dhcp else {"dnsmasq": None, "hosts": ()}
        return self._converge(view, lambda _: serving)

    def plug_interface(self, view: NetworkView, interface: str) -> Changes:
        """Writes down the interface."""
        view.port(interface)
        return self._converge(view, lambda before: {"ports": tuple(sorted({*before.ports, interface}))})

    def unplug_interface(self, view: NetworkView, interface: str) -> Changes:
        """Strikes the interface out."""
        netnames.name("interface", interface)

        def without(before: Observed) -> Observed:
            return replace(before, ports=tuple(one for one in before.ports if one != interface))

        return self._become(view.node, view.vni, without)

    def converge_floating(self, view: NetworkView) -> Changes:
        """Writes down the floating addresses."""
        wanted = tuple(sorted(view.floating, key=lambda one: one.address)) if view.serves_dhcp else ()
        return self._converge(view, lambda _: {"floating": wanted})

    def delete_network(self, node: str, vni: int, name: str) -> Changes:
        """Removes the file."""
        netnames.name("network", name)
        with self._fence.held(self._known(node), netnames.vni(vni)) as held:
            changes = _differences(_read(held.folder), Observed())
            self._fence.forget(node, vni)
            return changes

    def observe(self, node: str, vni: int) -> Observed:
        """What is written down."""
        return _read(self._fence.folder(self._known(node), netnames.vni(vni)))

    def _converge(self, view: NetworkView, step: Callable[[Observed], Mapping[str, Any]]) -> Changes:
        def stand_and(before: Observed) -> Observed:
            return replace(
                before,
                bridge=netnames.bridge_device(view.vni),
                gateway=view.gateway if view.serves_dhcp else None,
                tunnel=netnames.tunnel_device(view.vni),
                **step(before),
            )

        return self._become(view.node, view.vni, stand_and)

    def _become(self, node: str, vni: int, change: Callable[[Observed], Observed]) -> Changes:
        with self._fence.held(self._known(node), vni) as held:
            before = _read(held.folder)
            after = change(before)
            changes = _differences(before, after)
            if changes:
                write_atomically(_file(held.folder), json.dumps(asdict(after), indent=2))
            return changes

    def _known(self, node: str) -> str:
        if node not in self._config.nodes:
            known = ", ".join(self._config.nodes)
            raise Refused("node", expected=f"one of network.nodes: {known}", got=node, remedy="add it to the settings")
        return node


def _read(folder: Path) -> Observed:
    document: dict[str, Any] = {}
    with suppress(FileNotFoundError):
        document = json.loads(_file(folder).read_text(encoding="utf-8"))
    document = {key: tuple(value) if isinstance(value, list) else value for key, value in document.items()}
    return Observed(
        **{
            **document,
            "neighbours": tuple(Neighbour(**one) for one in document.get("neighbours", ())),
            "hosts": tuple((mac, address) for mac, address in document.get("hosts", ())),
            "floating": tuple(Floating(**one) for one in document.get("floating", ())),
        }
    )


def _differences(before: Observed, after: Observed) -> Changes:
    names = [field.name for field in fields(Observed)]
    pairs = [(name, getattr(before, name), getattr(after, name)) for name in names]
    return tuple(Change(_KINDS[name], f"{name}: {was} to {now}") for name, was, now in pairs if was != now)


def _file(folder: Path) -> Path:
    return folder / "would-be.json"
