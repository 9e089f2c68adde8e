"""From the end of an operation by the database's clock until `wait` returns to whoever waited, beside a bare notification."""

from __future__ import annotations

import queue
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Final, Self

import psycopg

from bench.deployment import database_ahead_s

if TYPE_CHECKING:
    from types import TracebackType

    from tasks.context import Context
    from tasks.up import Stack

WAITERS: Final = (1, 32)
_WAIT_S: Final = 60.0
_SEATED_S: Final = 0.1  # in which whoever has called wait() has come to wait
_FLOORS: Final = 5
# As the end of a run: a row is changed, it is told, and the transaction reaches the disk.
_NOTIFY: Final = """
with changed as (update bench_floor set number = number + 1 returning pg_notify('bench_floor', ''))
select extract(epoch from clock_timestamp())::float8 from changed
"""


class Wakes:
    """One network whose operations are waited for, in rounds."""

    def __init__(self, context: Context, stack: Stack, worker: str, node: str) -> None:
        self._context, self._stack, self._worker = context, stack, worker
        self.rounds_ms: dict[int, list[list[float]]] = {waiters: [] for waiters in WAITERS}
        self.floor_ms: dict[int, list[float]] = {waiters: [] for waiters in WAITERS}
        self._ahead_s = database_ahead_s(context.db)
        created = context.networks.create("wake", "10.77.0.0/24", node=node)
        context.operations.wait(created.id, _WAIT_S)
        self._heard: queue.SimpleQueue[float] = queue.SimpleQueue()
        self._asking = psycopg.connect(context.settings.database_dsn, autocommit=True)
        self._asking.execute("create table bench_floor as select 0 as number")
        self._listening = psycopg.connect(context.settings.database_dsn, autocommit=True)
        self._listening.execute("listen bench_floor")
        self._over = threading.Event()
        self._ear = threading.Thread(target=self._listen, name="bench-ear", daemon=True)
        self._callers = ThreadPoolExecutor(max(WAITERS))

    def __enter__(self) -> Self:
        """Listens as long as the block lasts."""
        self._ear.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._over.set()
        self._asking.execute(_NOTIFY)
        self._ear.join(_WAIT_S)
        self._callers.shutdown()
        self._asking.execute("drop table bench_floor")
        self._asking.close()
        self._listening.close()

    def round(self, *, keep: bool) -> None:
        """Each number of waiters once, each beside some bare notifications."""
        for waiters in WAITERS:
            floor_ms = median(self._notify_ms() for _ in range(_FLOORS))
            woken_ms = self._wake_ms(waiters)
            if keep and woken_ms:
                self.floor_ms[waiters].append(floor_ms)
                self.rounds_ms[waiters].append(woken_ms)

    def _wake_ms(self, waiters: int) -> list[float]:
        """Of those who were waiting when it ended. Nothing runs until they are."""
        self._stack.kill(self._worker, signal.SIGSTOP)
        try:
            operation = self._context.operations.submit("network.refresh", "wake").id
            calls = [self._callers.submit(partial(self._wait, operation)) for _ in range(waiters)]
            time.sleep(_SEATED_S)
        finally:
            self._stack.kill(self._worker, signal.SIGCONT)
        waited = [call.result(_WAIT_S) for call in calls]
        ended = self._context.db.row(
            "select extract(epoch from ended_at)::float8 as at from operations where id = %(id)s", id=operation
        )
        assert ended is not None
        assert ended["at"] is not None, f"operation {operation} has not ended"
        ended_at = ended["at"] - self._ahead_s
        return [1_000 * (woke_at - ended_at) for sat_at, woke_at in waited if sat_at < ended_at]

    def _wait(self, operation: int) -> tuple[float, float]:
        sat_at = time.monotonic()
        self._context.operations.wait(operation, _WAIT_S)
        return sat_at, time.monotonic()

    def _notify_ms(self) -> float:
        """The least that a wake-up can cost: a durable change, and its notification heard."""
        row = self._asking.execute(_NOTIFY).fetchone()
        assert row is not None
        heard_at = self._heard.get(timeout=_WAIT_S)
        return 1_000 * (heard_at - (float(row[0]) - self._ahead_s))

    def _listen(self) -> None:
        for _ in self._listening.notifies():
            self._heard.put(time.monotonic())
            if self._over.is_set():
                return
