"""What all messages have in common in a worker: what is told of their arguments, and what ending one from outside does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from celery.concurrency.base import BasePool
from celery.worker import state
from celery.worker.request import Request

from tasks.shown import shown

if TYPE_CHECKING:
    from signal import Signals

    from billiard.einfo import ExceptionInfo

log = structlog.get_logger(__name__)


class StokerRequest(Request):
    """A message that a worker has taken."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's own signature
        super().__init__(*args, **kwargs)
        # What its sender did not say (tasks/routing.py); a sender of another kind has said it in Celery's way.
        said, headers = self.kwargsrepr, self.request_dict
        by_name = {} if said else self.kwargs
        if not self.argsrepr:
            self._argsrepr = headers["argsrepr"] = shown(self.task, self.args, by_name)
            by_name = {}
        if not said:
            self._kwargsrepr = headers["kwargsrepr"] = shown(None, (), by_name) if by_name else "{}"

    def info(self, safe: bool = False) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002 - Celery's own signature
        """For `celery inspect` and Flower's page of a worker: the arguments as they are shown everywhere, never themselves."""
        told: dict[str, Any] = super().info(safe=True)
        return told

    def on_failure(self, exc_info: ExceptionInfo, send_failed_event: bool = True, return_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - Celery's own signature
        """It has ended, or parked, or is to be retried: of the last two the next message has the same id.

        Celery strikes an id from its table when one of its messages is done with. One that was taken before that could then be
        found no more, and neither terminated.
        """
        later = state.requests.get(self.id)
        super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
        if later is not self and later in state.reserved_requests:
            state.requests.setdefault(self.id, later)

    def terminate(self, pool: BasePool, signal: Signals | str | None = None) -> None:
        """Terminated by a click in Flower or `celery control`. A thread cannot be ended, and what it runs is told instead."""
        # The pool's own attribute, for the prefork pool has its way of ending a job put on it when it starts.
        if getattr(pool.terminate_job, "__func__", None) is not BasePool.terminate_job:
            super().terminate(pool, signal=signal)
        elif self.time_start:
            log.info("terminated, in a thread that nobody can end", task=self.name, id=self.id)
            self.terminated_in_thread()
        else:
            # When a thread takes it: Celery then calls this again.
            self._terminate_on_ack = pool, signal

    def terminated_in_thread(self) -> None:
        """Its task should end, and goes on for as long as it likes."""
        self.task.was_revoked(self.id)
