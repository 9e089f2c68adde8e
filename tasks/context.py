"""The composition root: what a process of Stoker is made of, built once from the settings and on first use."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import redis
import structlog
from kombu.exceptions import OperationalError

from config.names import RECONCILE_TASK, SPAWN_TASK, STOP_TASK
from config.settings import Settings, load
from scheduler.errors import Temporary
from scheduler.redis.connection import connect
from scheduler.redis.hints import Hints
from scheduler.store import launches, revision
from scheduler.store.database import Database
from scheduler.store.networks import Underlay
from scheduler.store.sync import apply_settings
from tasks import correlation, traces
from tasks.engines import check_postgres, check_redis
from tasks.launchers.process import ProcessLauncher
from tasks.network import driver as network_driver
from tasks.networks import Networks
from tasks.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from celery import Celery

    from scheduler.store.migrate import Migrated
    from scheduler.store.slots import Slot
    from tasks.launchers.base import Launcher
    from tasks.network import Driver
    from tasks.operations import Operations


_BATCH: Final = 100  # messages a round trip to the broker

log = structlog.get_logger(__name__)


class Context:
    """One process's database, Redis, launcher and pool. Opens no socket until one of them is used."""

    def __init__(self, settings: Settings, app: Celery) -> None:
        self.settings = settings
        self.app = app
        self.db = Database(settings.database_dsn, watch=traces.statements())

    @cached_property
    def hints(self) -> Hints:
        """Wake-ups and requests through Redis."""
        return Hints(connect(self.settings.redis_client_url))

    @cached_property
    def pool_id(self) -> str:
        """The mark of this installation's workers."""
        return launches.pool_id(self.db)

    @cached_property
    def launcher(self) -> Launcher:
        """Where workers run."""
        if self.settings.launcher.kind == "kubernetes":
            from tasks.launchers.kubernetes import KubernetesLauncher  # noqa: PLC0415 - its client, for who has a cluster

            return KubernetesLauncher(self.settings.launcher.kubernetes, self.pool.tallies.api_request)
        logs = self.settings.locations.logs
        return ProcessLauncher(self.settings.launcher.process, logs, notify_socket=self.notify_socket)

    @property
    def notify_socket(self) -> Path:
        """Where workers of this machine say that they are ready."""
        return self.settings.locations.run / "notify.sock"

    @cached_property
    def pool(self) -> Pool:
        """Claims."""
        return Pool(
            self.settings, self.db, self.hints, request_reconcile=self.request_reconcile, request_stop=self.request_stop
        )

    @cached_property
    def operations(self) -> Operations:
        """Operations."""
        from tasks import network_steps  # noqa: F401, PLC0415 - whoever publishes a step needs its task registered
        from tasks.operations.api import Operations  # noqa: PLC0415 - its steps find this module

        return Operations(self)

    @cached_property
    def networks(self) -> Networks:
        """Networks."""
        return Networks(self)

    @cached_property
    def network_driver(self) -> Driver:
        """What makes networks on nodes."""
        return network_driver(self.settings.network, self.settings.locations.state_dir)

    @cached_property
    def underlay(self) -> Underlay:
        """What carries networks between nodes."""
        network = self.settings.network
        return Underlay({name: node.address for name, node in network.nodes.items()}, network.network_mtu)

    def close(self) -> None:
        """Close what was opened. A later use opens it again."""
        if "launcher" in self.__dict__:
            self.__dict__.pop("launcher").close()
        if "pool" in self.__dict__:
            self.pool.tallies.flush()
        self.db.close()
        if "operations" in self.__dict__:
            self.operations.close()
        if "hints" in self.__dict__:
            self.hints.close()

    def check_engines(self) -> None:
        """Refuse engines that this must not run on.

        Raises:
            Permanent: PostgreSQL or Redis is too old, or Redis may evict what is queued.
            Temporary: one of them does not answer.
        """
        try:
            check_redis(connect(self.settings.redis_client_url))
        except redis.RedisError as error:
            what = "Redis did not answer"
            raise Temporary(
                what, got=str(error), remedy="check that it runs (`stoker doctor`), then try again"
            ) from error
        self.db.transaction(check_postgres)

    def check_schema(self) -> None:
        """Refuse to work on tables of an earlier version; those of a later one are no fault, but worth a word.

        Raises:
            Permanent: `stoker migrate` has not been run since this version came.
            Temporary: PostgreSQL does not answer.
        """
        found = self.db.transaction(revision.revision)
        revision.check_not_older(found)
        if revision.is_newer(found):
            log.warning(
                "the tables are of a later version; exchange this service soon", found=found, own=revision.NEWEST
            )

    def prepare(self) -> Migrated:
        """Check the engines, bring the database to this version and carry the settings into it; from which revision to which."""
        self.check_engines()
        from scheduler.store.migrate import migrate  # noqa: PLC0415 - SQLAlchemy and Alembic cost every other start a second

        migrated = migrate(self.settings.database_dsn)
        apply_settings(self.db, self.settings)
        return migrated

    def request_reconcile(self, profile: str) -> None:
        """Ask for a reconcile of the profile; it folds into one that is queued and has not begun (I7)."""
        from tasks import ticks  # noqa: F401, PLC0415 - whoever asks for a tick needs its task registered

        if not self.settings.wake_ups:
            return
        try:
            self.app.tasks[RECONCILE_TASK].apply_async(
                (profile,), queue=self.settings.routes[RECONCILE_TASK], retry=False
            )
        except (OperationalError, redis.RedisError) as error:
            log.warning("reconcile not asked for; the next tick does the work", profile=profile, error=str(error))

    def request_stop(self, workers: Iterable[int]) -> None:
        """Queue the stop of workers that drain."""
        story = correlation.current()
        self._send(STOP_TASK, [((worker_id,), story) for worker_id in workers])

    def request_spawns(self, slots: Iterable[Slot]) -> None:
        """Publish the launch of slots that are committed. One that is lost on the way is published again by the sweep."""
        self._send(SPAWN_TASK, [((slot.worker_id, slot.attempt), slot.correlation_id) for slot in slots])

    def _send(self, task: str, calls: Sequence[tuple[tuple[Any, ...], str | None]]) -> None:
        """Publish calls of a task, each in its story, to the queue that the settings route it to, in few round trips.

        What Stoker sends itself is never the only word of it: the ticks find in SQL what was not heard. So a broker that does
        not answer is logged, and no caller waits for it to come back.
        """
        if not calls:
            return
        queue = self.settings.routes[task]
        try:
            with self.app.producer_or_acquire() as producer, producer.batch(_BATCH):
                for args, story in calls:
                    with correlation.within(story):
                        self.app.send_task(
                            task, args=args, queue=queue, producer=producer, ignore_result=True, retry=False
                        )
        except (OperationalError, redis.RedisError) as error:
            log.warning(
                "messages not sent; a tick finds what they were about", task=task, count=len(calls), error=str(error)
            )


_lock = threading.Lock()
_current: Context | None = None


def current() -> Context:
    """This process's context, from the settings in force.

    Raises:
        SettingsError: the settings do not hold together.
    """
    global _current  # noqa: PLW0603 - the one place that holds the process's parts
    with _lock:
        if _current is None:
            from tasks.celery_app import app  # noqa: PLC0415 - the app's tasks import this module

            _current = Context(load(), app)
        return _current
