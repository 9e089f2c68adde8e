"""What one run of the ramp leaves behind: observations of its clients, samples of its pool, and the database's own history.

Two clocks: `*_s` counts seconds since the run began, by this process; `*_at` is the database's clock, in seconds of its epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from demo.network.record import NetworkRecording

STATES = ("idle", "spawning", "activating", "active", "hot_idle", "stopping")


@dataclass(frozen=True, slots=True)
class Hold:
    """One claim as its client saw it: from the return of the claim to the start of its release, or the end of its lease."""

    tenant: str
    worker_id: int
    epoch: int
    endpoint: str
    origin: str
    door: str  # library or celery
    claim_ms: float  # the whole call: statement, activation, and the wait if there was one
    began_s: float
    ended_s: float


@dataclass(frozen=True, slots=True)
class Sample:
    """The pool at one instant: workers by state, and claims that wait."""

    at_s: float
    workers: dict[str, int]
    waiting: int

    @property
    def live(self) -> int:
        """Workers in any state."""
        return sum(self.workers.values())


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """A claim in the database's history."""

    worker_id: int
    epoch: int
    tenant: str
    node: str
    origin: str
    asked_at: float
    claimed_at: float
    activated_at: float | None
    ended_at: float | None
    end_reason: str | None


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker in the database's history. `cause`: why it was drained or lost, None while it serves."""

    id: int
    node: str | None
    node_first_seen: float | None
    created_at: float
    ready_at: float | None
    ended_at: float | None
    cause: str | None


@dataclass(frozen=True, slots=True)
class ReconcileRow:
    """A reconcile that created slots; `at` is taken as the last statement of the transaction that did."""

    at: float
    created: int
    deficit: int
    demand: int


@dataclass(frozen=True, slots=True)
class History:
    """The database's account of the run, with what it finds wrong in itself."""

    claims: list[ClaimRow]
    workers: list[WorkerRow]
    reconciles: list[ReconcileRow]
    double_claims: int
    cross_tenant: int
    miscounted_tenants: int


@dataclass(slots=True)
class Refusals:
    """Requests that must be refused, and those of them that were served all the same."""

    foreign_tried: int = 0
    foreign_served: int = 0
    ended_tried: int = 0
    ended_served: int = 0


@dataclass(slots=True)
class Observations:
    """What the clients saw."""

    holds: list[Hold] = field(default_factory=list)
    query_ms: list[float] = field(default_factory=list)
    statement_ms: list[float] = field(default_factory=list)
    wrong_results: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    refusals: Refusals = field(default_factory=Refusals)
    abandoned_asks: int = 0


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the run, from `at_s` to the next one."""

    name: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Recording:
    """Everything that the figures and the plots are made of."""

    tenants: int
    floor: int
    began: str  # ISO 8601, UTC
    wall_s: float
    burst_s: float
    burst_at: float
    back_at_floor: bool
    left_processes: int
    phases: list[Phase]
    samples: list[Sample]
    seen: Observations
    history: History
    machine: dict[str, str | int | float]
    network: NetworkRecording
