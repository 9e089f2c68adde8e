"""Which idle workers to let go (I9): those of closed nodes, then those of the newest, for the oldest caches serve best."""

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
    closed: bool = False  # its node is: no claim gets it


def plan_reap(
    idle: Sequence[IdleWorker], keep: int, idle_timeout: timedelta, now: datetime, *, at_most: int
) -> list[int]:
    """Workers to drain: idle for longer than the timeout, above what is to be kept, unknown and newest nodes first.

    Those of closed nodes go before all others, but not before others stand in for them: when all nodes are silent for a
    moment, nothing is let go.
    """
    stale = sorted((worker for worker in idle if now - worker.idle_since > idle_timeout), key=_coldest_first)
    shut = [worker.id for worker in stale if worker.closed][: max(0, len(idle) - keep)]
    surplus = sum(not worker.closed for worker in idle) - keep
    unneeded = [worker.id for worker in stale if not worker.closed][: max(0, surplus)]
    return [*shut, *unneeded][:at_most]


def _coldest_first(worker: IdleWorker) -> tuple[bool, float, datetime, int]:
    known = worker.node_first_seen
    return known is not None, -known.timestamp() if known else 0.0, worker.idle_since, worker.id
