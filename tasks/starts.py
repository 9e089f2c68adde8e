"""Each task that starts executing says so by one event, with how long it waited and for what: `task-started-executing`.

Celery's own `task-started` tells that a message was taken: for a coalescing task that is no start yet, for the message may
park behind its lane, or find that another run serves it. Nobody listens: nothing is made, and nothing sent.
"""

from __future__ import annotations

import contextlib
import os
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakValueDictionary

import structlog
from billiard.exceptions import SoftTimeLimitExceeded
from celery import Task
from celery.utils.time import maybe_iso8601

from tasks.patience import end_wait
from tasks.requests import StokerRequest
from tasks.transport.reading import ENQUEUED_AT

if TYPE_CHECKING:
    from celery import Celery
    from celery.app.task import Context
    from celery.events import EventDispatcher
    from celery.worker.request import Request

log = structlog.get_logger(__name__)

EVENT: Final = "task-started-executing"
# Where a message's delivery info has, on both sides of the pool, the process that took it, if that one's events are heard;
# and, beside it, which of that process's requests it is.
_TELLS: Final = "tells"
_TAKEN: Final = "taken"
# Not by task id, as Celery's own table has them: a request that parked and is released comes in a second message of its id,
# and when the first is done with after that one was taken, its id is struck from Celery's table for both.
_taken: WeakValueDictionary[int, Request] = WeakValueDictionary()


class Start(NamedTuple):
    """That a task has begun, and why not earlier. The event's fields, beside its `uuid`."""

    name: str
    queue: str  # from which its message was taken
    wait_s: float | None  # since it was published, or due if that is later; None: it has no stamp
    lane_wait_s: float = 0.0  # how much of it its lane was taken by another run
    defers: int = 0  # how often it had to give way to another run of its lane
    folded: int = 0  # requests that it serves beside its own


def waited_s(headers: Any, now_s: float) -> float | None:  # noqa: ANN401 - what has a `get`: a dict, or Celery's request
    """How long a message of these headers has waited for a start now; None if its publisher did not stamp it."""
    stamp_ms, eta = headers.get(ENQUEUED_AT), headers.get("eta")
    if not isinstance(stamp_ms, int | float):
        return None
    since_s = stamp_ms / 1000
    if eta:
        # It was not to start before: who publishes a retry for later waits for nobody until then.
        due = maybe_iso8601(eta)
        since_s = max(since_s, (due if due.tzinfo else due.replace(tzinfo=UTC)).timestamp())
    # The publisher's clock may be ahead of this one.
    return round(max(0.0, now_s - since_s), 6)


class StartingRequest(StokerRequest):
    """A message of a plain task: it starts when the pool takes it, and the worker's own dispatcher tells of that."""

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """Called by the pool, right before the task's own code."""
        super().on_accepted(pid, time_accepted)
        if _is_heard(self):
            queue = self.delivery_info["routing_key"] or ""
            start = Start(self.task.name, queue, waited_s(self.request_dict, self.time_start))
            self.send_event(EVENT, **start._asdict())


class StartingTask(Task):
    """What the tasks of an app are that names no class of its own for them: an app made with it tells of all plain tasks."""

    abstract = True
    Request = "tasks.starts:StartingRequest"

    def was_revoked(self, id_: str) -> None:
        """It was terminated, and its thread goes on."""


class WaitingTask(StartingTask):
    """One that waits for something with what tasks/patience.py gives: its wait can be ended."""

    abstract = True

    def was_revoked(self, id_: str) -> None:
        """Its caller is answered at once, as at the end of the time that it gave."""
        end_wait(id_)


def let_tell(request: Request) -> None:
    """Called where a message is received of a task that tells of its start itself: it then knows whether anybody listens."""
    if _is_heard(request):
        request.delivery_info.update({_TELLS: os.getpid(), _TAKEN: id(request)})
        _taken[id(request)] = request


def tell(app: Celery, request: Context, start: Start) -> None:
    """A task that tells of its start itself has begun. What fails here fails no task: it is only not told."""
    delivery = request.delivery_info or {}
    main = delivery.get(_TELLS)
    if main is None:
        return
    try:
        if main == os.getpid():
            taken = _taken.get(delivery[_TAKEN])
            if taken is not None:
                taken.send_event(EVENT, **start._asdict())
        else:
            _own.dispatcher(app, request.hostname).send(EVENT, uuid=request.id, **start._asdict())
    except SoftTimeLimitExceeded:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a broker's client raises
        _own.forget()
        log.warning("a start was not told", id=request.id, error=str(error))


class _OwnDispatcher:
    """The dispatcher of a pool's child, which has no part in its worker's: made when it has something to tell, and kept."""

    def __init__(self) -> None:
        self._made: tuple[int, Celery, EventDispatcher] | None = None

    def dispatcher(self, app: Celery, hostname: str) -> EventDispatcher:
        """This process's: what its parent made is its parent's."""
        if self._made is None or self._made[:2] != (os.getpid(), app):
            # By a channel: a dispatcher that is given a connection waits for ever for a broker that is gone.
            channel = app.connection_for_write().channel()
            made = app.events.Dispatcher(channel=channel, hostname=hostname, buffer_while_offline=False)
            self._made = (os.getpid(), app, made)
        return self._made[2]

    def forget(self) -> None:
        """Connect anew the next time."""
        made, self._made = self._made, None
        if made is not None and made[0] == os.getpid():
            with contextlib.suppress(Exception):
                made[2].connection.release()


_own = _OwnDispatcher()


def _is_heard(request: Request) -> bool:
    """Whether the worker that took the message sends events of tasks: started with -E, or told to by whoever listens."""
    eventer = request.eventer
    return bool(
        eventer and eventer.enabled and (not eventer.groups or "task" in eventer.groups) and request.task.send_events
    )
