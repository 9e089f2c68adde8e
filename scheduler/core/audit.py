"""Rows without a worker and workers without a row (I11), told apart from those that are merely young."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Row:
    """A live row. `handle` None: not launched, or launched and not yet recorded. `age_s` since it was last placed."""

    worker_id: int
    epoch: int
    handle: str | None
    age_s: float


@dataclass(frozen=True, slots=True)
class Found:
    """A worker that runs, by the number it carries and the handle that finds it again."""

    worker_id: int
    handle: str
    age_s: float


@dataclass(frozen=True, slots=True)
class AuditPlan:
    """`ghosts`: rows to mark lost. `orphans`: workers to stop, once a second look still finds no live row for them."""

    ghosts: list[Row] = field(default_factory=list)
    orphans: list[Found] = field(default_factory=list)


def plan_audit(rows: Mapping[int, Row], found: Iterable[Found], *, grace_s: float) -> AuditPlan:
    """Compare what the database says with what runs; leave alone whatever is younger than the grace.

    A row that has no handle yet claims every worker of its number: its launch may have succeeded and not been recorded.
    """
    running = list(found)
    seen = {worker.handle for worker in running}
    ghosts = [row for row in rows.values() if row.handle is not None and row.handle not in seen and row.age_s > grace_s]
    orphans = [
        worker for worker in running if worker.age_s > grace_s and not is_claimed(rows.get(worker.worker_id), worker)
    ]
    return AuditPlan(ghosts, orphans)


def is_claimed(row: Row | None, worker: Found) -> bool:
    """Whether the row of the worker's number, if there is one, says that this worker is its own."""
    return row is not None and (row.handle is None or row.handle == worker.handle)
