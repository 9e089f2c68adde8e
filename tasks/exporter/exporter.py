"""What the exporter is made of: a listener, a look at each scrape, a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from prometheus_client import CollectorRegistry

from scheduler.core.network_plans import KINDS
from scheduler.redis.connection import at_once, connect
from scheduler.store.database import Database
from tasks.exporter.counted import Counted
from tasks.exporter.listener import Listener
from tasks.exporter.looks import ANSWER_S, Looks
from tasks.exporter.server import Server
from tasks.exporter.spawns import Spawns
from tasks.exporter.waits import Waits
from tasks.operations.steps import StepTask

if TYPE_CHECKING:
    from types import TracebackType

    from celery import Celery

    from config.settings import Settings


class Exporter:
    """Serves metrics for the time of a `with` block. Starts without its engines, and outlives them."""

    def __init__(self, app: Celery, settings: Settings, port: int | None = None) -> None:
        """Take the port, that of the settings unless one is given.

        Raises:
            Refused: the port cannot be had.
        """
        registry = CollectorRegistry()
        app.loader.import_default_modules()  # tasks have their names by then
        waits = Waits(registry, app.tasks, settings.all_queues)
        self._listener = Listener(app, waits.hear)
        self._client = connect(settings.redis_client_url, ANSWER_S, retry=at_once())
        self._db = Database(settings.database_dsn, connections=2, timeout_s=ANSWER_S)
        spawns = Spawns(registry)
        steps = [name for name, task in app.tasks.items() if isinstance(task, StepTask)]
        counted = Counted(settings.profiles, steps, KINDS)
        registry.register(
            Looks(self._client, self._db, settings.all_queues, self._listener.is_listening, spawns, counted)
        )
        wanted = settings.exporter.port if port is None else port
        self._server = Server(str(settings.exporter.address), wanted, registry, self._listener.is_alive)

    @property
    def url(self) -> str:
        """Where it answers."""
        return self._server.url

    def __enter__(self) -> Self:
        """Listen and serve."""
        self._listener.start()
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and close what was opened."""
        self._server.stop()
        self._listener.stop()
        self._client.close()
        self._db.close()
