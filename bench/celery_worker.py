"""A Celery worker that does nothing beside its tasks: what it would say to other workers would be measured as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery import Celery


def be_worker(app: Celery, name: str, *, pool: str, slots: int, queues: Iterable[str]) -> None:
    """Be a worker of the app, until it is told to stop."""
    app.worker_main(
        [
            "worker",
            f"--pool={pool}",
            f"--concurrency={slots}",
            f"--queues={','.join(queues)}",
            f"--hostname={name}@bench",
            "--loglevel=WARNING",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )
