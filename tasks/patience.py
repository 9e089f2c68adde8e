"""How long a call waits. Whoever knows the task that makes it can end its wait, which its thread lets nobody do."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Patience:
    """The time that a caller has left. It waits for `wake` to be called or for that time to be over."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._wake: Callable[[], object] | None = None

    def left_s(self) -> float:
        """Seconds, never below 0."""
        return max(0.0, self._until - time.monotonic())

    def end(self) -> None:
        """It is over now. The caller is answered as it would be at the end of its time."""
        self._until = time.monotonic()
        if (wake := self._wake) is not None:
            wake()

    @contextmanager
    def woken_by(self, wake: Callable[[], object]) -> Iterator[None]:
        """`end` calls this for the time of the block. Read what is left inside of it: else an end in between goes unheard."""
        self._wake = wake
        try:
            yield
        finally:
            self._wake = None


_of_tasks: dict[str, Patience] = {}


@contextmanager
def patience(seconds: float, task_id: str = "") -> Iterator[Patience]:
    """A wait of this length, by a task if its id is given."""
    made = Patience(seconds)
    if task_id:
        _of_tasks[task_id] = made
    try:
        yield made
    finally:
        _of_tasks.pop(task_id, None)


def end_wait(task_id: str) -> None:
    """End the wait of a task that runs in this process; one that does not wait goes on."""
    if (found := _of_tasks.get(task_id)) is not None:
        found.end()
