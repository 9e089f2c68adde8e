"""The names by which rooms that may not import each other agree on tasks and queues."""

from __future__ import annotations

from typing import Final

CONTROL_QUEUE: Final = "control"
USER_WAITING_QUEUE: Final = "user_waiting"
USER_FACING_QUEUE: Final = "user_facing"
SPAWN_QUEUE: Final = "spawn"
BACKGROUND_QUEUE: Final = "background"
QUEUES: Final = (CONTROL_QUEUE, USER_WAITING_QUEUE, USER_FACING_QUEUE, SPAWN_QUEUE, BACKGROUND_QUEUE)

RECONCILE_TASK: Final = "pool.reconcile"
REAP_TASK: Final = "pool.reap"
SWEEP_TASK: Final = "pool.sweep"
SPAWN_TASK: Final = "pool.spawn"
STOP_TASK: Final = "pool.stop"
CLAIM_TASK: Final = "pool.claim"
RENEW_TASK: Final = "pool.renew"
RELEASE_TASK: Final = "pool.release"

OPERATION_SUBMIT_TASK: Final = "operation.submit"
OPERATION_WAIT_TASK: Final = "operation.wait"
OPERATION_SHOW_TASK: Final = "operation.show"
OPERATION_CANCEL_TASK: Final = "operation.cancel"
NETWORK_CREATE_TASK: Final = "network.create"
NETWORK_DELETE_TASK: Final = "network.delete"
NETWORK_SHOW_TASK: Final = "network.show"
NETWORK_PLUG_TASK: Final = "network.plug"
NETWORK_UNPLUG_TASK: Final = "network.unplug"
NETWORK_FLOATING_ADD_TASK: Final = "network.floating_add"
NETWORK_FLOATING_REMOVE_TASK: Final = "network.floating_remove"
OPERATION_TASKS: Final = (
    OPERATION_SUBMIT_TASK,
    OPERATION_WAIT_TASK,
    OPERATION_SHOW_TASK,
    OPERATION_CANCEL_TASK,
    NETWORK_CREATE_TASK,
    NETWORK_DELETE_TASK,
    NETWORK_SHOW_TASK,
    NETWORK_PLUG_TASK,
    NETWORK_UNPLUG_TASK,
    NETWORK_FLOATING_ADD_TASK,
    NETWORK_FLOATING_REMOVE_TASK,
)

# Steps of operations: each is queued where its operation says, on the node that it changes.
CREATE_NETWORK_STEP: Final = "step.create_network"
ENSURE_MESH_STEP: Final = "step.ensure_mesh"
UPDATE_DNSMASQ_STEP: Final = "step.update_dnsmasq"
PLUG_STEP: Final = "step.plug_interface"
UNPLUG_STEP: Final = "step.unplug_interface"
ADD_FLOATING_STEP: Final = "step.add_floating_ip"
REMOVE_FLOATING_STEP: Final = "step.remove_floating_ip"
DELETE_NETWORK_STEP: Final = "step.delete_network"
FORGET_NETWORK_STEP: Final = "step.forget_network"

# The classes of work that an operation may be submitted in; each node has a queue of its own for each of them.
OPERATION_QUEUES: Final = (USER_WAITING_QUEUE, USER_FACING_QUEUE, BACKGROUND_QUEUE)

# Where a task goes that no other route names, and that was sent to no queue by name.
OTHER_TASKS: Final = "*"
DEFAULT_ROUTES: Final[dict[str, str]] = {
    RECONCILE_TASK: CONTROL_QUEUE,
    REAP_TASK: CONTROL_QUEUE,
    SWEEP_TASK: CONTROL_QUEUE,
    SPAWN_TASK: SPAWN_QUEUE,
    STOP_TASK: BACKGROUND_QUEUE,
    CLAIM_TASK: USER_WAITING_QUEUE,
    RENEW_TASK: USER_WAITING_QUEUE,
    RELEASE_TASK: USER_WAITING_QUEUE,
    **dict.fromkeys(OPERATION_TASKS, USER_WAITING_QUEUE),
    OTHER_TASKS: BACKGROUND_QUEUE,
}
TICK_TASKS: Final = (RECONCILE_TASK, REAP_TASK, SWEEP_TASK)


def node_queue(queue: str, node: str) -> str:
    """The queue of a class of work that only the workers of one node serve."""
    return f"{queue}@{node}" if node else queue


def class_of(queue: str) -> str:
    """The class of work that a queue belongs to: `background` for `background@node1`, and for itself."""
    return queue.partition("@")[0]
