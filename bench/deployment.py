"""A deployment for a bench: the Celery workers of a stack, up for the time of a block."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tasks.context import Context
from tasks.draining import empty_pool
from tasks.up import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from celery import Celery

    from bench.progress import Progress
    from config.settings import Settings
    from scheduler.store.database import Database
    from tasks.services import Service

READY_S: Final = 60.0
_CLOCK_SAMPLES: Final = 40


@contextmanager
def deployed(
    settings: Settings, app: Celery, needed: Sequence[Service], progress: Progress
) -> Iterator[tuple[Context, Stack]]:
    """Up and down with the block."""
    context = Context(settings, app)

    def empty() -> None:
        empty_pool(context)

    with Stack(settings, prepare=context.prepare, on_stop=empty, services=needed, say=progress.say) as stack:
        stack.wait_ready(READY_S)
        yield context, stack


def database_ahead_s(db: Database) -> float:
    """The database's clock minus this machine's monotonic one; of many looks, that of the shortest round trip."""
    looks: list[tuple[float, float]] = []
    for _ in range(_CLOCK_SAMPLES):
        began = time.monotonic()
        row = db.row("select extract(epoch from clock_timestamp())::float8 as now")
        ended = time.monotonic()
        assert row is not None, "a select without from returns one row"
        looks.append((ended - began, row["now"] - (began + ended) / 2))
    return min(looks)[1]
