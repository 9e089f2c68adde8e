"""The life of a worker, as one table. The same table stands as a trigger in PostgreSQL; a test compares the two."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class WorkerState(StrEnum):
    """Where a worker is in its life."""

    SPAWNING = "spawning"  # a slot: decided, perhaps not launched yet
    IDLE = "idle"  # ready and neutral: anybody's
    ACTIVATING = "activating"  # claimed, being bound to its tenant
    ACTIVE = "active"  # serving its tenant
    HOT_IDLE = "hot_idle"  # released, waiting for the same tenant
    DRAINING = "draining"  # to be stopped
    RETIRED = "retired"  # stopped by us
    LOST = "lost"  # ended by itself, or never came to be


_S = WorkerState

TRANSITIONS: Final[dict[WorkerState, frozenset[WorkerState]]] = {
    _S.SPAWNING: frozenset({_S.IDLE, _S.DRAINING, _S.LOST}),
    _S.IDLE: frozenset({_S.ACTIVATING, _S.DRAINING, _S.LOST}),
    _S.ACTIVATING: frozenset({_S.ACTIVE, _S.HOT_IDLE, _S.DRAINING, _S.LOST}),
    _S.ACTIVE: frozenset({_S.HOT_IDLE, _S.DRAINING, _S.LOST}),
    _S.HOT_IDLE: frozenset({_S.ACTIVATING, _S.DRAINING, _S.LOST}),
    _S.DRAINING: frozenset({_S.RETIRED, _S.LOST}),
    _S.RETIRED: frozenset(),
    _S.LOST: frozenset(),
}
LIVE: Final = frozenset(state for state, after in TRANSITIONS.items() if after)
CLAIMED: Final = frozenset({_S.ACTIVATING, _S.ACTIVE})
NEUTRAL: Final = frozenset({_S.SPAWNING, _S.IDLE})


def may_become(state: WorkerState, after: WorkerState) -> bool:
    """Whether one step of a life may lead from one state to the other."""
    return after in TRANSITIONS[state]
