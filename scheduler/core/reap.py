"""Which idle workers to let go (I9): the longest-warm nodes keep theirs, for their caches serve the next tenant best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class IdleWorker:
    """An idle worker as the reaper sees it. `node_first_seen` None: the node is unknown."""

    id: int
    idle_since: datetime
    node_first_seen: datetime | None


def plan_reap(
    idle: Sequence[IdleWorker], keep: int, idle_timeout: timedelta, now: datetime, *, at_most: int
) -> list[int]:
    """Workers to drain: idle for longer than the timeout, above what is to be kept, unknown and newest nodes first."""
    surplus = len(idle) - keep
    stale = [worker for worker in idle if now - worker.idle_since > idle_timeout]
    stale.sort(key=_coldest_first)
    return [worker.id for worker in stale[: max(0, min(surplus, at_most))]]


def _coldest_first(worker: IdleWorker) -> tuple[bool, float, datetime, int]:
    known = worker.node_first_seen
    return known is not None, -known.timestamp() if known else 0.0, worker.idle_since, worker.id
