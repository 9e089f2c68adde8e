"""The correlation id of what this thread does now: taken from a task's message, given to every message it publishes.

Whoever claims or submits begins a story; each task that follows from it carries the story's id in a header, and each log
line has it. A message without the header (a client of plain Celery, a worker of an earlier version) belongs to no story yet.
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import structlog
from celery import signals
from celery._state import get_current_task

from scheduler.core.correlation import FORM, check_correlation_id, is_correlation_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping

log = structlog.get_logger(__name__)

# Not Celery's own `correlation_id`, which is the task's id: replies are told apart by that one.
HEADER: Final = "stoker_correlation_id"
_LEFT: Final = "stoker_correlation_before"

_current: ContextVar[str | None] = ContextVar("stoker_correlation_id", default=None)


def current() -> str | None:
    """The id of the story that this thread works for."""
    return _current.get()


@contextmanager
def within(id_: str | None) -> Iterator[None]:
    """For the time of the block this thread works for that story; None: for nobody's."""
    before = _current.set(id_)
    try:
        yield
    finally:
        _current.reset(before)


def chosen(given: str = "") -> str:
    """The id of a claim or submit: the given one, else that of the story it is a part of, else a new one.

    A task whose message has none is called by the id of the first task of its chain: the one that its client knows.

    Raises:
        Refused: what was given is no correlation id.
    """
    if given:
        return check_correlation_id(given)
    if (found := _current.get()) is not None:
        return found
    task = get_current_task()
    root = task.request.root_id if task is not None else None
    return str(root) if is_correlation_id(root) else uuid.uuid4().hex


def told(headers: Mapping[str, Any] | None) -> str | None:
    """The id in a message's headers, if there is one that can be believed."""
    found = (headers or {}).get(HEADER)
    return found if is_correlation_id(found) else None


def add_to(headers: MutableMapping[str, Any]) -> None:
    """Give a message the id of the story in which it is published, unless it has its own."""
    if (id_ := _current.get()) is not None:
        headers.setdefault(HEADER, id_)


def follow_tasks() -> None:
    """Have each task of this process work for the story that its message names. Called twice: nothing changes."""
    signals.task_prerun.connect(_enter, dispatch_uid="stoker-correlation", weak=False)
    signals.task_postrun.connect(_leave, dispatch_uid="stoker-correlation", weak=False)


def _enter(task: Any, **_: Any) -> None:  # noqa: ANN401 - a Celery task
    request = task.request
    setattr(request, _LEFT, _current.set(told(request.headers)))
    if (request.headers or {}).get(HEADER) is not None and _current.get() is None:
        log.warning("a message's correlation id was dropped", expected=FORM)


def _leave(task: Any, **_: Any) -> None:  # noqa: ANN401 - a Celery task
    if (before := getattr(task.request, _LEFT, None)) is not None:
        _current.reset(before)
