"""How a run's end reaches those who followed it: each finishes with and like its leader, and goes on along its own chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import redis
import structlog
from billiard.exceptions import SoftTimeLimitExceeded
from celery import states
from celery.backends.base import KeyValueStoreBackend
from kombu.exceptions import OperationalError

from tasks import correlation, traces
from tasks.coalescing.payload import Payload, continue_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from celery import Task
    from celery.app.task import Context

    from scheduler.redis.coalescing.protocol import Follower

log = structlog.get_logger(__name__)

# What stops all the telling, and may be gone the next time. Any other error is the one follower's own.
PASSING: Final = (OperationalError, redis.RedisError, SoftTimeLimitExceeded)

_AT_ONCE: Final = 500  # followers whose results are looked at in one round trip


def succeed(task: Task, followers: Sequence[Follower], result: Any) -> None:  # noqa: ANN401 - any task's result
    """Give each follower the result and publish what comes after it.

    Raises:
        kombu.exceptions.OperationalError: the broker is gone. Who was told is told again by the next execution of the run.
    """

    def finish(context: Context) -> None:
        continue_with(task.app, context, result)
        task.backend.mark_as_done(context.id, result, request=context, store_result=not context.ignore_result)

    _each(task, followers, finish)


def fail(task: Task, followers: Sequence[Follower], error: Exception, traceback: str | None) -> None:
    """Let each follower fail with the same error: its result, its callbacks for errors, its chord, the rest of its chain."""

    def finish(context: Context) -> None:
        stored = not context.ignore_result or task.store_errors_even_if_ignored
        task.backend.mark_as_failure(context.id, error, traceback, request=context, store_result=stored)

    _each(task, followers, finish)


def _each(task: Task, followers: Sequence[Follower], finish: Callable[[Context], None]) -> None:
    for some in (followers[start : start + _AT_ONCE] for start in range(0, len(followers), _AT_ONCE)):
        _finish(task, some, _revoked(task, some), finish)


def _revoked(task: Task, followers: Sequence[Follower]) -> set[str]:
    """Those whose result says so already, read in one round trip where the results are in a store of keys and values."""
    backend, ids = task.backend, [follower.id for follower in followers]
    if not isinstance(backend, KeyValueStoreBackend):
        return {id_ for id_ in ids if backend.get_state(id_) == states.REVOKED}
    stored = backend.mget([backend.get_key_for_task(id_) for id_ in ids])
    return {
        id_
        for id_, value in zip(ids, stored, strict=True)
        if value and backend.decode(value)["status"] == states.REVOKED
    }


def _finish(task: Task, followers: Iterable[Follower], revoked: set[str], finish: Callable[[Context], None]) -> None:
    for follower in followers:
        payload = Payload.read(follower.payload)
        with correlation.within(payload.story), traces.following(task.name, payload.options.get("headers")):
            _finish_one(task, payload, follower.id, revoked, finish)


def _finish_one(task: Task, payload: Payload, id_: str, revoked: set[str], finish: Callable[[Context], None]) -> None:
    context = payload.context(id_)
    stored = not context.ignore_result
    # What is published meanwhile is the follower's: its children, of its own story, not those of the run.
    task.request_stack.push(context)
    try:
        if payload.has_expired():
            task.backend.mark_as_revoked(context.id, "expired", request=context, store_result=stored)
        elif context.id in revoked:
            # Its chain ends here. No worker ever had a message of it, so its chord has yet to be told.
            task.was_revoked(context.id)
            task.backend.mark_as_revoked(context.id, "revoked", request=context, store_result=stored)
        else:
            finish(context)
    except PASSING:
        raise
    except Exception as error:
        # Its own callbacks or chain cannot be published, whoever tries: the others must not wait for it.
        log.exception("a follower could not go on", task=task.name, id=context.id)
        task.backend.mark_as_failure(context.id, error, request=context, store_result=stored, call_errbacks=False)
    finally:
        task.request_stack.pop()
