"""The clients' observations while they are being made, by many threads at once."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, LiteralString

from demo.record import Observations
from scheduler.store.database import Database

if TYPE_CHECKING:
    from typing import Any

    from demo.record import Hold
    from scheduler.store.database import Row
    from tasks.pool import Held


class Journal:
    """Where every thread of the run writes down what it saw. Times are seconds since the journal was opened."""

    def __init__(self) -> None:
        self.seen = Observations()
        self._lock = threading.Lock()
        self._opened = time.monotonic()
        self._holders: dict[str, Held] = {}

    def now_s(self) -> float:
        """Seconds since the journal was opened."""
        return time.monotonic() - self._opened

    def holds(self, held: Held) -> None:
        """The tenant holds this worker from now on."""
        with self._lock:
            self._holders[held.tenant] = held

    def held(self, hold: Hold) -> None:
        """The tenant held it so long."""
        with self._lock:
            self._holders.pop(hold.tenant, None)
            self.seen.holds.append(hold)

    def somebody_else(self, tenant: str) -> Held | None:
        """The worker of the next tenant by name that holds one; None when nobody else does."""
        with self._lock:
            others = sorted(self._holders.keys() - {tenant})
            following = next((other for other in others if other > tenant), others[0] if others else None)
            return None if following is None else self._holders[following]

    @property
    def served(self) -> int:
        """Claims served so far."""
        with self._lock:
            return len(self.seen.holds) + len(self._holders)

    def asked(self, elapsed_ms: float, wrong: str | None) -> None:
        """A query was answered; `wrong` says what was wrong with the answer."""
        with self._lock:
            self.seen.query_ms.append(elapsed_ms)
            if wrong is not None:
                self.seen.wrong_results.append(wrong)

    def failed(self, what: str) -> None:
        """Something that must not happen did."""
        with self._lock:
            self.seen.failures.append(what)

    def tried_foreign(self, *, served: bool) -> None:
        """A tenant tried its token on another tenant's worker."""
        with self._lock:
            self.seen.refusals.foreign_tried += 1
            self.seen.refusals.foreign_served += served

    def tried_ended(self, *, served: bool) -> None:
        """A tenant tried the token of a claim that had ended."""
        with self._lock:
            self.seen.refusals.ended_tried += 1
            self.seen.refusals.ended_served += served

    def walked_away(self) -> None:
        """Somebody asked for a worker and did not come back for it."""
        with self._lock:
            self.seen.abandoned_asks += 1

    def claimed(self, statement_ms: float) -> None:
        """The one statement of a claim gave a worker within this time."""
        with self._lock:
            self.seen.statement_ms.append(statement_ms)


class TimedDatabase(Database):
    """A database that writes down how long each claim's one statement took, when it gave a worker."""

    def __init__(self, dsn: str, journal: Journal, *, connections: int) -> None:
        super().__init__(dsn, connections=connections, kept_open=connections)
        self._journal = journal

    def rows(self, sql: LiteralString, /, **values: Any) -> list[Row]:  # noqa: ANN401 - SQL parameters
        """As `Database.rows`."""
        began = time.perf_counter()
        found = super().rows(sql, **values)
        if "claim_worker(" in sql and found and found[0]["worker_id"] is not None:
            self._journal.claimed((time.perf_counter() - began) * 1000)
        return found
