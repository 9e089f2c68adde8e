"""How long spawns took and how many failed, read from the record: whichever process spawned, it is written there once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import Histogram

from scheduler.store import figures

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from scheduler.store.database import Database

_EDGES_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_AT_ONCE: Final = 5_000


class Spawns:
    """A histogram of the spawns that ended since this process first had an answer from the database."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._took = Histogram(
            "stoker_spawn_seconds",
            "From a worker's slot to its first answer (ready), or to the end of a spawn that came to nothing (failed).",
            ["outcome"],
            buckets=_EDGES_S,
            registry=registry,
        )
        for outcome in ("ready", "failed"):  # a rate needs a 0 to rise from
            self._took.labels(outcome)
        self._after: int | None = None
        self._counted: set[int] = set()

    def read(self, db: Database) -> None:
        """Count what has ended since the last time.

        Raises:
            Temporary: the database is away; nothing is counted, and nothing lost.
        """
        if self._after is None:
            self._after = figures.newest_event(db)
        settled = max(self._after, figures.settled_event(db))  # asked first: what settles meanwhile is read once more
        rows = figures.spawns(db, self._after, _AT_ONCE)
        for row in rows:
            if row["id"] not in self._counted:
                self._counted.add(row["id"])
                self._took.labels("ready" if row["was_ready"] else "failed").observe(max(0.0, row["took_s"] or 0.0))
        if len(rows) == _AT_ONCE:  # the rest is for the next scrape
            settled = min(settled, rows[-1]["id"])
        self._after = settled
        self._counted = {number for number in self._counted if number > settled}
