"""Networks as their users see them: each call changes what is wanted and submits the operation that makes it so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from config.names import USER_FACING_QUEUE, USER_WAITING_QUEUE
from scheduler.core.network_plans import Target
from scheduler.errors import Refused, unknown
from scheduler.store import networks as store

if TYPE_CHECKING:
    from scheduler.core.network_plans import Spread
    from scheduler.store.database import Connection
    from scheduler.store.operations import Operation
    from tasks.context import Context


class Networks:
    """Create, plug, unplug, delete. Bad input is refused before anything is written or queued."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def create(self, name: str, prefix: str, *, node: str = "", queue: str = USER_FACING_QUEUE) -> Operation:
        """Want a network; its gateway, DHCP and DNS are on `node`, by default the first one there is."""
        place = self._node(node or next(iter(self._context.settings.network.nodes)))

        def change(connection: Connection) -> tuple[Spread, str]:
            return store.create(connection, name, prefix, place), ""

        return self._submit("network.create", Target(name), change, queue)

    def delete(self, name: str, *, queue: str = USER_FACING_QUEUE) -> Operation:
        """Want a network gone. Refused while it has interfaces."""
        return self._submit(
            "network.delete", Target(name), lambda connection: (store.unwant(connection, name), ""), queue
        )

    def plug(
        self,
        network: str,
        name: str,
        node: str,
        *,
        namespace: str = "",
        address: str = "",
        mac: str = "",
        queue: str = USER_WAITING_QUEUE,
    ) -> tuple[Operation, dict[str, Any]]:
        """Want an interface for the instance that is the network namespace `namespace` (by default: `name`) on the node.

        Returns the operation and the interface: its address and MAC are decided here, DHCP will give them.
        """
        place = self._node(node)
        plugged: dict[str, Any] = {}

        def change(connection: Connection) -> tuple[Spread, str]:
            spread, row = store.plug(
                connection, network, name, place, namespace=namespace or name, address=address, mac=mac
            )
            plugged.update(row)
            return spread, place

        return self._submit("interface.plug", Target(network, name), change, queue), plugged

    def unplug(self, network: str, name: str, *, queue: str = USER_FACING_QUEUE) -> Operation:
        """Want an interface gone."""
        return self._submit(
            "interface.unplug", Target(network, name), lambda connection: store.unplug(connection, network, name), queue
        )

    def add_floating(self, network: str, name: str, address: str, *, queue: str = USER_WAITING_QUEUE) -> Operation:
        """Want an address of the underlay to reach an interface. Refused: a node's own, which would be lost to it."""
        for node, known in self._context.settings.network.nodes.items():
            if known.address == address:
                raise Refused(
                    f"floating address {address} for {network}/{name}",
                    expected="an address that no node has",
                    got=f"that of node {node}",
                    remedy="choose another of the underlay",
                )

        def change(connection: Connection) -> tuple[Spread, str]:
            return store.add_floating(connection, network, name, address), ""

        return self._submit("floating.add", Target(network, address), change, queue)

    def remove_floating(self, network: str, address: str, *, queue: str = USER_FACING_QUEUE) -> Operation:
        """Want it to reach nobody."""

        def change(connection: Connection) -> tuple[Spread, str]:
            return store.remove_floating(connection, network, address), ""

        return self._submit("floating.remove", Target(network, address), change, queue)

    def show(self, name: str | None = None) -> list[dict[str, Any]]:
        """Networks as they should be; of one, or of all."""
        found = store.show(self._context.db, name)
        if name is not None and not found:
            raise Refused(f"network {name}", expected="one that exists", got="none", remedy="stoker network show")
        return found

    def _submit(self, kind: str, target: Target, change: Any, queue: str) -> Operation:  # noqa: ANN401 - see submit_change
        return self._context.operations.submit_change(kind, target, change, queue=queue)

    def _node(self, name: str) -> str:
        known = self._context.settings.network.nodes
        if name not in known:
            raise unknown("node", name, list(known), "add it to [network.nodes]")
        return name
