"""What a Celery worker of Stoker does beyond running tasks: check its engines first, and keep a keeper where it spawns."""

from __future__ import annotations

from typing import Any

import structlog
from celery import bootsteps
from celery.concurrency.thread import TaskPool

from config.names import SPAWN_QUEUE
from scheduler.errors import Permanent, Temporary
from tasks.context import current
from tasks.keeper import start_keeper, stop_keeper

log = structlog.get_logger(__name__)


class CheckEngines(bootsteps.Step):
    """Ends the worker before it takes a message, if its Redis may evict queued work, or an engine or the tables are too old."""

    def create(self, parent: Any) -> None:  # noqa: ARG002, ANN401 - Celery's worker controller
        """Before any part of the worker starts."""
        try:
            current().check_engines()
            current().check_schema()
        except Temporary as error:
            log.warning("engines not checked; the worker waits for them", error=str(error))
        except Permanent as error:
            raise SystemExit(f"stoker: {error}") from error


class TellWhenFree(bootsteps.Step):
    """Wakes the worker's event loop when a thread has ended its task: only then may it take another message (I35).

    In the pool of processes the loop reads the result and knows. A thread tells nobody, and the loop, which sleeps until
    something happens on a socket, would leave the thread idle for up to a second.
    """

    requires = ("celery.worker.components:Pool", "celery.worker.components:Hub")

    def include_if(self, parent: Any) -> bool:  # noqa: ANN401 - Celery's worker controller
        """Where threads run under an event loop."""
        return bool(parent.use_eventloop) and issubclass(parent.pool_cls, TaskPool)

    def create(self, parent: Any) -> None:  # noqa: ANN401 - Celery's worker controller
        """Once the pool is there, before it is given anything."""
        apply, hub = parent.pool.on_apply, parent.hub

        def on_apply(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the pool's own
            result = apply(*args, **kwargs)
            result.f.add_done_callback(lambda _: hub.call_soon(_nothing))
            return result

        parent.pool.on_apply = on_apply


def _nothing() -> None:
    """To be called is all that it is for."""


class KeeperStep(bootsteps.StartStopStep):
    """Runs a keeper in each Celery worker that consumes the spawn queue, for as long as it lives."""

    requires = ("celery.worker.components:Pool",)

    def include_if(self, parent: Any) -> bool:  # noqa: ANN401 - Celery's worker controller
        """Only where slots are launched: a worker of another role may not see their processes."""
        return SPAWN_QUEUE in parent.app.amqp.queues.consume_from

    def start(self, parent: Any) -> None:  # noqa: ARG002, ANN401
        """With the worker. The floor is asked for at once: beat's first tick may be a whole period away."""
        start_keeper()
        context = current()
        for kind in context.settings.profiles.values():
            context.request_reconcile(kind.canonical)

    def stop(self, parent: Any) -> None:  # noqa: ARG002, ANN401
        """With the worker."""
        stop_keeper()
