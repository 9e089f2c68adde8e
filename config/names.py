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

DEFAULT_ROUTES: Final[dict[str, str]] = {
    RECONCILE_TASK: CONTROL_QUEUE,
    REAP_TASK: CONTROL_QUEUE,
    SWEEP_TASK: CONTROL_QUEUE,
    SPAWN_TASK: SPAWN_QUEUE,
    STOP_TASK: BACKGROUND_QUEUE,
    CLAIM_TASK: USER_WAITING_QUEUE,
    RENEW_TASK: USER_WAITING_QUEUE,
    RELEASE_TASK: USER_WAITING_QUEUE,
}
TICK_TASKS: Final = (RECONCILE_TASK, REAP_TASK, SWEEP_TASK)
