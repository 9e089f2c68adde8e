"""The classes of work: which goes first, how long one may wait, and the share that it has once it waited longer (I30)."""

from __future__ import annotations

import difflib
import math
import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from config.frozen import Frozen
from config.names import (
    BACKGROUND_QUEUE,
    CONTROL_QUEUE,
    DEFAULT_ROUTES,
    SPAWN_QUEUE,
    USER_FACING_QUEUE,
    USER_WAITING_QUEUE,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LEAST_BOUND_S: Final = 0.001
MOST_BOUND_S: Final = 86_400.0

# Between the parts of what the broker writes of a queue; whoever speaks to its workers writes the same.
SEPARATOR: Final = ":"

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
# A queue is a list of that name in Redis, where the broker keeps these of its own.
_TAKEN: Final = frozenset({"unacked", "unacked_index", "unacked_mutex"})


def _fitting(name: str) -> str:
    if not _NAME.fullmatch(name) or name in _TAKEN:
        taken = ", and none of " + ", ".join(sorted(_TAKEN)) if name in _TAKEN else ""
        msg = (
            f"{name!r} is no name for a queue; use 1 to 63 small letters, digits, '_' and '-', a letter first{taken}"
            " ('@' makes the queue of a node, by itself)"
        )
        raise ValueError(msg)
    return name


QueueName = Annotated[str, AfterValidator(_fitting)]


class Queue(Frozen):
    """One class of work. Its queues on single nodes (`background@node1`) belong to it."""

    rank: int = Field(ge=0)  # 0 is served first
    bound_s: float = Field(ge=LEAST_BOUND_S, le=MOST_BOUND_S)  # waited longer than this, its reserve is its due
    reserve: float = Field(default=0.0, ge=0, lt=1)  # share of dequeues; 0 = none, however long it waits
    worker: Literal["control", "user", "spawn"]  # which of the Celery workers of `stoker up` serves it


DEFAULT_QUEUES: Final[Mapping[str, Queue]] = {
    CONTROL_QUEUE: Queue(rank=0, bound_s=1.0, worker="control"),
    USER_WAITING_QUEUE: Queue(rank=1, bound_s=1.0, worker="user"),
    USER_FACING_QUEUE: Queue(rank=2, bound_s=5.0, reserve=0.25, worker="user"),
    SPAWN_QUEUE: Queue(rank=3, bound_s=5.0, reserve=0.25, worker="spawn"),
    BACKGROUND_QUEUE: Queue(rank=4, bound_s=30.0, reserve=0.10, worker="spawn"),
}
_REQUIRED: Final = [name for name, key in Queue.model_fields.items() if key.is_required()]


def completed(given: Mapping[str, Any]) -> dict[str, Any]:
    """The queues as given, over the defaults; each of the defaults is there.

    Raises:
        ValueError: a default is to be removed, a route stands here, or a queue of the operator's own lacks a key.
    """
    made: dict[str, Any] = {name: queue.model_dump() for name, queue in DEFAULT_QUEUES.items()}
    for name, body in given.items():
        if not isinstance(body, dict | Queue):
            raise ValueError(_no_queue(name, body))  # noqa: TRY004 - pydantic shows these alone
        own = dict(body) if isinstance(body, dict) else body.model_dump()
        missing = [key for key in _REQUIRED if key not in own]
        if name not in made and missing:
            near = difflib.get_close_matches(name, made, n=1)
            also = f"; or did you mean {near[0]!r}?" if near else ""
            msg = f"{name} is a queue of your own and needs {', '.join(missing)} as well{also}"
            raise ValueError(msg)
        made[name] = {**made.get(name, {}), **own}
    return made


def as_option(queues: Mapping[str, Queue]) -> dict[str, dict[str, Any]]:
    """What the transport is told of them, as `queue_classes` among its options."""
    return {name: queue.model_dump(include={"rank", "bound_s", "reserve"}) for name, queue in queues.items()}


def broken_queues(queues: Mapping[str, Queue], routes: Mapping[str, str]) -> list[str]:
    """What of the queues and of the routes to them does not hold together, each with its remedy; empty when all does."""
    wrong = []
    seen: dict[int, str] = {}
    for name, queue in queues.items():
        other = seen.setdefault(queue.rank, name)
        if other != name:
            free = next(rank for rank in range(len(queues) + 1) if all(rank != q.rank for q in queues.values()))
            wrong.append(
                f"queues.{name}.rank = {queue.rank} is also that of queues.{other}; give one another: {free} is free"
            )
    total = overfull({name: queue.reserve for name, queue in queues.items()})
    if total is not None:
        wrong.append(
            f"queues: the reserves {total} must be less than 1 in all: the rest is for better work; lower one of them"
        )
    known_tasks = ", ".join(DEFAULT_ROUTES)
    wrong += [
        f"routes.{task}: unknown task{_nearest(task, DEFAULT_ROUTES)}; known: {known_tasks}"
        for task in routes
        if task not in DEFAULT_ROUTES
    ]
    wrong += [
        f"routes.{task} = {queue!r}: unknown queue{_nearest(queue, queues)}; known: {', '.join(queues)}"
        for task, queue in routes.items()
        if queue not in queues
    ]
    return wrong


def overfull(reserves: Mapping[str, float]) -> str | None:
    """The sum, written out, of reserves that leave nothing for better work; None of those that leave something."""
    total = math.fsum(reserves.values())
    if total < 1:
        return None
    return " + ".join(f"{reserve:g} ({name})" for name, reserve in reserves.items() if reserve) + f" = {total:g}"


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def _no_queue(name: str, body: object) -> str:
    if name in DEFAULT_QUEUES:
        return (
            f"{name} = {body!r}: a queue that Stoker sends to cannot be removed; leave it out for its defaults, or change"
            f" its {', '.join(Queue.model_fields)}"
        )
    if name in DEFAULT_ROUTES or isinstance(body, str):
        return f"{name} = {body!r} is no queue; where a task goes is written under [routes]"
    return f"{name} = {body!r} is no queue; expected a table of {', '.join(Queue.model_fields)}"
