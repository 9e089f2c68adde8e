"""Celery's scheduler class for the schedule in SQL: `beat_scheduler` of the app names it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.beat import Scheduler

from scheduler.errors import Permanent
from tasks.beat.beat import Beat
from tasks.beat.publisher import Publisher
from tasks.context import current

if TYPE_CHECKING:
    from celery import Celery


class SqlScheduler(Scheduler):
    """Has no entries of its own. Each of Celery's ticks is a round of `Beat`, which sleeps by itself to be woken by an edit.

    It closes nothing: Celery calls `close` in a signal's handler, in the middle of whatever goes on. The process ends next, the
    database sees its session end, and another beat takes over.
    """

    _beat: Beat

    @property
    def info(self) -> str:
        """What Celery's banner says of it."""
        return "    . schedule -> SQL, see `stoker schedule`"

    def setup_schedule(self) -> None:
        """Called once, not for a banner's sake."""
        app: Celery = self.app
        settings = current().settings
        self._beat = Beat(settings.database_dsn, Publisher(app, settings.redis_client_url))

    def tick(self, *_: Any, **__: Any) -> float:  # noqa: ANN401 - Celery's own signature
        """One round; seconds that Celery is to sleep."""
        try:
            return self._beat.round()
        except Permanent as error:
            raise SystemExit(f"stoker: {error}") from error
