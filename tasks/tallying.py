"""Counts what leaves no row, off the path of what is counted: in memory, carried into SQL at most once a second.

A process that ends carries the rest with it on its way out; one that is killed loses what it had counted since, a second's
worth at most while the database answers.
"""

from __future__ import annotations

import atexit
import os
import threading
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

import structlog
from celery.signals import worker_process_shutdown

from scheduler.errors import Temporary
from scheduler.store import tallies
from scheduler.store.tallies import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduler.store.database import Database

log = structlog.get_logger(__name__)

CLAIMS: Final = "stoker_claims"
CLAIM_SECONDS: Final = "stoker_claim_seconds"
API_REQUESTS: Final = "stoker_kubernetes_requests"
API_WAITS: Final = "stoker_kubernetes_limit_wait_seconds"
CLAIM_EDGES_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_PERIOD_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0

# Metric, labels, edge: as many as there are values of labels, which are names of the settings and of ours.
Key = tuple[str, tuple[tuple[str, str], ...], float | None]


class Tallies:
    """Counters of this process, for a database. Safe for threads; a forked child begins with none of its parent's."""

    def __init__(self, db: Database, *, period_s: float = _PERIOD_S) -> None:
        self._db = db
        self._period_s = period_s
        self._mine = _Counts()
        self._making = threading.Lock()

    def claim(self, profile: str, outcome: str, reason: str, took_s: float) -> None:
        """A claim has ended so: held, miss or failed; by which way it was served, or why not."""
        edge = next(iter(CLAIM_EDGES_S[bisect_left(CLAIM_EDGES_S, took_s) :]), None)
        of_reason = (("outcome", outcome), ("profile", profile), ("reason", reason))
        way = reason if outcome == "held" else outcome
        self._add([((CLAIMS, of_reason, None), 0.0), ((CLAIM_SECONDS, (("outcome", way),), edge), took_s)])

    def api_request(self, verb: str, status: str, waited_s: float) -> None:
        """A request to a cluster's API server was answered so, after it had waited for this client's own limits."""
        labels = (("code", status), ("verb", verb))
        self._add([((API_REQUESTS, labels, None), 0.0), ((API_WAITS, (("verb", verb),), None), waited_s)])

    def flush(self) -> bool:
        """Carry what was counted into SQL now; whether nothing is left. What the database does not take is kept."""
        mine = self._counts()
        with mine.flushing:
            taken = mine.take()
            try:
                if taken:
                    tallies.add(self._db, [Tally(m, dict(labels), e, *n) for (m, labels, e), n in taken.items()])
            except Temporary as error:
                log.warning("counts were not carried into SQL; they are kept", error=str(error))
                mine.put_back(taken)
                return False
            except Exception:
                log.exception("counts were not carried into SQL; they are kept")
                mine.put_back(taken)
                return False
        return True

    def _add(self, seen: Iterable[tuple[Key, float]]) -> None:
        mine = self._counts()
        if not mine.is_carried:
            self._carry(mine)
        mine.add(seen)

    def _counts(self) -> _Counts:
        if self._mine.pid != os.getpid():
            with self._making:
                if self._mine.pid != os.getpid():
                    self._mine = _Counts()
        return self._mine

    def _carry(self, mine: _Counts) -> None:
        with self._making:
            if mine.is_carried:
                return
            mine.is_carried = True
        threading.Thread(target=self._run, args=(mine,), name="stoker-tallies", daemon=True).start()
        atexit.register(self.flush)
        # A pool's child leaves without that.
        worker_process_shutdown.connect(self._leave, weak=False)

    def _run(self, mine: _Counts) -> None:
        rest, pause_s = threading.Event(), self._period_s
        while True:
            mine.wait()
            rest.wait(pause_s)
            pause_s = self._period_s if self.flush() else min(2 * pause_s, _LONGEST_PAUSE_S)

    def _leave(self, **_: object) -> None:
        self.flush()


class _Counts:
    """What one process has counted and not carried away."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.is_carried = False
        self.flushing = threading.Lock()
        self._some = threading.Condition()
        self._counts: dict[Key, tuple[int, float]] = {}

    def add(self, seen: Iterable[tuple[Key, float]]) -> None:
        with self._some:
            for key, size in seen:
                many, total = self._counts.get(key, (0, 0.0))
                self._counts[key] = (many + 1, total + size)
            self._some.notify()

    def take(self) -> dict[Key, tuple[int, float]]:
        with self._some:
            taken, self._counts = self._counts, {}
        return taken

    def put_back(self, taken: dict[Key, tuple[int, float]]) -> None:
        with self._some:
            for key, (many, total) in taken.items():
                more, further = self._counts.get(key, (0, 0.0))
                self._counts[key] = (many + more, total + further)

    def wait(self) -> None:
        """Until there is something."""
        with self._some:
            self._some.wait_for(lambda: self._counts)
