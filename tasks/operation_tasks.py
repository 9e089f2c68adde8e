"""Operations and networks for any Celery client: `app.send_task("network.plug", ["blue", "web1", "node1"])`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from celery import shared_task

from config import names
from scheduler.errors import Refused
from tasks.context import current
from tasks.inputs import answering
from tasks.starts import WaitingTask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celery import Task

    from scheduler.store.operations import Operation


def _answer(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return {"outcome": "ok", **ask()}
    except (Refused, ValueError, TypeError) as refusal:
        return {"outcome": "refused", "reason": str(refusal)}


def _submitted(operation: Operation, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {**operation.as_json(), **more}


@shared_task(name=names.OPERATION_SUBMIT_TASK)
@answering
def submit(
    kind: str,
    target: str,
    queue: str = names.USER_FACING_QUEUE,
    needs: Sequence[int] = (),
    after: Sequence[int] = (),
) -> dict[str, Any]:
    """Submit an operation: `{"outcome": "ok", "operation": 17, ...}`, or "refused" with a reason."""
    operations = current().operations
    return _answer(lambda: _submitted(operations.submit(kind, target, queue=queue, needs=needs, after=after)))


@shared_task(base=WaitingTask, bind=True, name=names.OPERATION_WAIT_TASK)
@answering
def wait(self: Task, operation: int, timeout_s: float = 30.0) -> dict[str, Any]:
    """Wait for its end, at most so long; what is known of it then."""
    operations, own = current().operations, self.request.id or ""
    return _answer(lambda: _plain(operations.wait(int(operation), float(timeout_s), task_id=own)))


@shared_task(name=names.OPERATION_SHOW_TASK)
@answering
def show(operation: int) -> dict[str, Any]:
    """All that is known of an operation."""
    return _answer(lambda: _plain(current().operations.show(int(operation))))


@shared_task(name=names.OPERATION_CANCEL_TASK)
@answering
def cancel(operation: int) -> dict[str, Any]:
    """End an operation; `cancelled` is False when it had ended."""
    return _answer(lambda: {"cancelled": current().operations.cancel(int(operation))})


@shared_task(name=names.NETWORK_CREATE_TASK)
@answering
def create(network: str, prefix: str, node: str = "", queue: str = names.USER_FACING_QUEUE) -> dict[str, Any]:
    """Create a network."""
    return _answer(lambda: _submitted(current().networks.create(network, prefix, node=node, queue=queue)))


@shared_task(name=names.NETWORK_DELETE_TASK)
@answering
def delete(network: str, queue: str = names.USER_FACING_QUEUE) -> dict[str, Any]:
    """Delete a network that has no interfaces."""
    return _answer(lambda: _submitted(current().networks.delete(network, queue=queue)))


@shared_task(name=names.NETWORK_SHOW_TASK)
@answering
def show_networks(network: str | None = None) -> dict[str, Any]:
    """Networks as they should be."""
    return _answer(lambda: {"networks": current().networks.show(network)})


@shared_task(name=names.NETWORK_PLUG_TASK)
@answering
def plug(  # noqa: PLR0917 - a task's arguments by their places
    network: str,
    interface: str,
    node: str,
    namespace: str = "",
    address: str = "",
    queue: str = names.USER_WAITING_QUEUE,
    mac: str = "",
) -> dict[str, Any]:
    """Plug an instance; the answer has the address and MAC that DHCP will give it."""

    def ask() -> dict[str, Any]:
        operation, row = current().networks.plug(
            network, interface, node, namespace=namespace, address=address, mac=mac, queue=queue
        )
        return _submitted(operation, address=row["address"], mac=row["mac"])

    return _answer(ask)


@shared_task(name=names.NETWORK_UNPLUG_TASK)
@answering
def unplug(network: str, interface: str, queue: str = names.USER_FACING_QUEUE) -> dict[str, Any]:
    """Unplug an instance."""
    return _answer(lambda: _submitted(current().networks.unplug(network, interface, queue=queue)))


@shared_task(name=names.NETWORK_FLOATING_ADD_TASK)
@answering
def floating_add(network: str, interface: str, address: str, queue: str = names.USER_WAITING_QUEUE) -> dict[str, Any]:
    """Let an address of the underlay reach an instance."""
    return _answer(lambda: _submitted(current().networks.add_floating(network, interface, address, queue=queue)))


@shared_task(name=names.NETWORK_FLOATING_REMOVE_TASK)
@answering
def floating_remove(network: str, address: str, queue: str = names.USER_FACING_QUEUE) -> dict[str, Any]:
    """Let it reach nobody."""
    return _answer(lambda: _submitted(current().networks.remove_floating(network, address, queue=queue)))


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Times as text: a result crosses the broker as JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(row, default=lambda value: value.isoformat()))
    return plain
