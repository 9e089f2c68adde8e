"""A burst of submits of one key while real workers run: how often it runs, and when the last waiter has its result."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from celery.result import EagerResult

from bench.coalesce_app import SERVED

if TYPE_CHECKING:
    from celery import Celery

    from bench.coalesce_workers import Workers
    from bench.progress import Progress

_WAIT_S: Final = 120.0


@dataclass(frozen=True)
class Burst:
    """What one burst came to."""

    runs: int
    submitted_s: float  # until the last submit had returned
    waited_s: float | None  # until the last submit's waiter had its result; None: nothing is given to wait with


def measure(
    app: Celery, workers: Workers, ways: tuple[str, ...], rounds: int, submits: int, progress: Progress
) -> dict[str, list[Burst]]:
    """So many bursts of each, in turn; a first short one of each opens its connections."""
    found: dict[str, list[Burst]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        progress.say(f"bursts, round {number} of {rounds}")
        for turn in range(len(ways)):
            way = ways[(turn + number) % len(ways)]
            burst = _burst(app, workers, way, f"burst.{way}.{number}", submits if number > 0 else 10)
            if number > 0:
                found[way].append(burst)
    return found


def _burst(app: Celery, workers: Workers, way: str, key: str, submits: int) -> Burst:
    task = app.tasks[f"{way}.short"]
    began = time.perf_counter()
    last = [task.apply_async((key, number)) for number in range(submits)][-1]
    submitted_s = time.perf_counter() - began
    waited_s = None
    if not isinstance(last, EagerResult):  # what celery-once answers has no task behind it
        last.get(timeout=_WAIT_S)
        waited_s = time.perf_counter() - began
    workers.until(lambda: workers.is_quiet(SERVED), f"the end of {key}", _WAIT_S)
    return Burst(workers.board.counted(key), submitted_s, waited_s)
