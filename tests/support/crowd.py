"""Many processes that do one thing at the same moment."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from typing import Any, TypeVar

T = TypeVar("T")

_PRELOADED = ["tests.support.racers", "tasks.context"]
_START_S_MAX = 60.0

_gate: Barrier | None = None


def crowd(work: Callable[..., T], arguments: Sequence[tuple[Any, ...]]) -> list[T]:
    """What each of the processes returned. None begins before the last of them is there."""
    # A fork server: no second of imports each, and no copy of this process's threads and connections.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    size = len(arguments)
    with ProcessPoolExecutor(
        size, mp_context=context, initializer=_arrive, initargs=(context.Barrier(size),)
    ) as processes:
        futures = [processes.submit(_together, work, each) for each in arguments]
        return [future.result() for future in futures]


def _arrive(gate: Barrier) -> None:
    global _gate  # noqa: PLW0603 - one a process, given when it starts
    _gate = gate


def _together(work: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    assert _gate is not None
    _gate.wait(_START_S_MAX)
    return work(*arguments)
