"""What a worker's main process sees of a run and the run itself cannot: revoked, expired, timed out, its child lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import structlog
from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import states

from scheduler.redis.coalescing import Verdict
from tasks.coalescing import handing
from tasks.coalescing.coalescer import coalescer_of
from tasks.coalescing.execution import EXECUTION
from tasks.requests import StokerRequest
from tasks.starts import let_tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from billiard.einfo import ExceptionInfo

log = structlog.get_logger(__name__)


class CoalescingRequest(StokerRequest):
    """A message of a coalescing task. Whatever ends it here reaches those who follow it."""

    _goes_on = False  # its message has been published again, or returned to the broker

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's own signature
        super().__init__(*args, **kwargs)
        self._token = self.delivery_info[EXECUTION] = uuid4().hex
        let_tell(self)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:  # noqa: ANN401, FBT001
        """Revoked, expired or terminated: it will not run, and its first follower leads."""
        if terminated:
            self._hearing(lambda: self.task.give_up(self.id, self._token))
        else:  # another copy of its message may be running
            self._hearing(lambda: self.task.give_up_waiting(self.id))
        if not expired:
            self._hearing(lambda: self.task.was_revoked(self.id))
        super()._announce_revoked(reason, terminated, signum, expired)

    def terminated_in_thread(self) -> None:
        """The run serves those who follow it to its end; what it is a step of goes no further."""
        self._hearing(super().terminated_in_thread)

    def on_timeout(self, soft: bool, timeout: float) -> None:  # noqa: FBT001 - Celery's own signature
        """Past the hard limit its child is killed: the run has failed, and with it those who followed it."""
        if not soft and not self._goes_on:
            self._hearing(lambda: self._fail_followers(TimeLimitExceeded(timeout)))
        super().on_timeout(soft, timeout)

    def on_failure(self, exc_info: ExceptionInfo, send_failed_event: bool = True, return_ok: bool = False) -> None:  # noqa: FBT001, FBT002
        """An error of the run has been settled by itself; a child that was lost has settled nothing."""
        super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        lost = isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt)
        if lost and not self._goes_on and self.acknowledged:
            self._hearing(self._settle_lost)

    def reject(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - Celery's own signature
        """A message that goes back to the broker begins once more: said before another worker can have it."""
        if requeue and not self.acknowledged:
            self._goes_on = True
            self._hearing(lambda: coalescer_of(self.app).protocol.returned(self.id, self._token))
        super().reject(requeue=requeue)

    def _retry_worker_lost(self, exc: Exception, exc_info: ExceptionInfo) -> bool:
        self._goes_on = bool(super()._retry_worker_lost(exc, exc_info))
        return self._goes_on

    def _settle_lost(self) -> None:
        # To store its result was the last it did: its followers had been told before.
        if self.task.backend.get_state(self.id) == states.SUCCESS:
            coalescer_of(self.app).protocol.done(self.id, self._token)
        else:
            self.task.give_up(self.id, self._token)

    def _fail_followers(self, error: Exception) -> None:
        protocol = coalescer_of(self.app).protocol
        handing.fail(self.task, protocol.followers(self.id), error, None)
        if protocol.done(self.id, self._token).verdict is Verdict.LOST:
            log.info("the run had ended when its time limit was seen", id=self.id)

    def _hearing(self, call: Callable[[], object]) -> None:
        """What fails here must not end the worker; the run's lease ends, and repair takes it from there."""
        try:
            call()
        except handing.PASSING as error:
            log.warning("a run's end was not told; repair finds it", id=self.id, error=str(error))
