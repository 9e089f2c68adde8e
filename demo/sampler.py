"""Looks at the pool five times a second: for the plot, for the screen, and for who waits until it has come to a state."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Self

from demo.record import STATES, Sample
from scheduler.errors import Temporary
from scheduler.store import status
from scheduler.store.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from demo.journal import Journal

EVERY_S: Final = 0.2


class Sampler:
    """Samples one profile for the time of a `with` block, over a connection of its own."""

    def __init__(self, dsn: str, family: str, journal: Journal, show: Callable[[Sample], None]) -> None:
        self.samples: list[Sample] = []
        self._db = Database(dsn, connections=1, kept_open=1)
        self._family = family
        self._journal = journal
        self._show = show
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-sampler", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._db.close()

    def wait_for(self, wanted: Callable[[Sample], bool], timeout_s: float) -> bool:
        """Wait for a sample, from now on, that is as wanted; False when none was within `timeout_s`."""
        with self._changed:
            old = len(self.samples)
            return self._changed.wait_for(lambda: any(map(wanted, self.samples[old:][-1:])), timeout_s)

    def _run(self) -> None:
        while not self._over.wait(EVERY_S - self._journal.now_s() % EVERY_S):
            try:
                sample = self._look()
            except Temporary:  # a sample less; who waits for one has a timeout
                continue
            if sample is None:
                continue
            with self._changed:
                self.samples.append(sample)
                self._changed.notify_all()
            self._show(sample)

    def _look(self) -> Sample | None:
        at_s = self._journal.now_s()
        for row in status.pool(self._db):
            if row["family"] == self._family and row["is_current"]:
                return Sample(at_s, {state: row[state] for state in STATES}, row["waiting"])
        return None
