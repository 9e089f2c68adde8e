"""A Celery app for each way to choose the next queue: Stoker's transport, and two orders of kombu's own. `-m` runs its worker."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

from celery import Celery
from celery.signals import worker_ready

from bench.celery_worker import be_worker
from config.names import QUEUES, node_queue
from config.queues import DEFAULT_QUEUES, as_option
from tasks.transport import register

STOKER: Final = "stoker"
PRIORITY: Final = "priority"
ROUND_ROBIN: Final = "round_robin"
WAYS: Final = (STOKER, PRIORITY, ROUND_ROBIN)

TASK: Final = "fairness.sleep"
# Sleeping, not computing: what can be served is then no matter of the processors, which are shared.
SERVICE_S: Final = 0.02
SLOTS: Final = 2
READY: Final = "ready"


def queues_of(way: str) -> list[str]:
    """The default queues, the best first, as those of a node: each way has lists of its own, and all have the same classes."""
    return [node_queue(queue, way) for queue in QUEUES]


def transport_options(way: str) -> dict[str, Any]:
    """What this way tells its transport."""
    lists = {"priority_steps": [0], "sep": ":"}
    if way != STOKER:
        return {**lists, "queue_order_strategy": way}
    return {**lists, "queue_classes": as_option(DEFAULT_QUEUES)}


def build(way: str, broker_url: str) -> Celery:
    """The app. It holds no message that does not run: acknowledged late, and one in hand for each slot."""
    app = Celery("stoker-bench", set_as_current=False)
    app.conf.update(
        broker_url=broker_url,
        task_ignore_result=True,
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options=transport_options(way),
    )
    return app


def main() -> None:
    """A worker as the JSON in its first argument says. It writes down what starts, and how long that has waited."""
    told = json.loads(sys.argv[1])
    way: str = told["way"]
    if way == STOKER:
        register()
    app = build(way, told["broker_url"])
    # Appended in one call a line: threads and processes share it, and the broker has no part in it.
    journal = os.open(Path(told["journal"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def perform(run: int, number: int, published_at: float) -> None:
        os.write(journal, f"{run} {number} {time.time() - published_at:.6f}\n".encode())
        time.sleep(SERVICE_S)

    app.task(name=TASK, lazy=False, shared=False)(perform)
    worker_ready.connect(lambda **_: os.write(journal, f"{READY}\n".encode()), weak=False)
    be_worker(app, f"{way}-{told['pool']}", pool=told["pool"], slots=SLOTS, queues=queues_of(way))


if __name__ == "__main__":
    main()
