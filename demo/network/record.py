"""What the network part of a run leaves behind: the database's history of operations, and what waiters and instances saw.

Times end in `_at` and are seconds of the epoch. The engines are this machine's, so both sides read one clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class OperationRow:
    """An operation in the database's history. `plan`: the tasks of its steps; `trail`: what became of each."""

    id: int
    kind: str
    target: str
    state: str
    asked: int  # submits that it stands for
    plan: list[str]
    trail: list[dict[str, Any]]
    submitted_at: float
    ended_at: float | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run of a step in the database's history."""

    task: str
    operation_id: int  # who led it
    state: str
    served: int
    began_at: float
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class Wake:
    """One waiter: when it began to wait for the operation, and when it was told of the end."""

    operation: int
    asked_at: float
    returned_at: float


@dataclass(frozen=True, slots=True)
class Guest:
    """What an instance found once its operation had ended: its address by DHCP, the others by name, who answers."""

    name: str
    leased: str
    wanted: str
    resolved: int
    names: int
    pings_ok: int
    pings: int
    strangers_reached: int
    strangers: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that a node has, and should not have so."""

    network: str
    node: str
    what: str
    wanted: str
    found: str

    def __str__(self) -> str:
        return f"{self.network} on {self.node}: {self.what} should be {self.wanted}, is {self.found}"


@dataclass(slots=True)
class Seen:
    """What the clients saw."""

    wakes: list[Wake] = field(default_factory=list)
    guests: list[Guest] = field(default_factory=list)
    starts: list[list[int]] = field(default_factory=list)  # operations of six starts, a list a round
    apart: list[list[int]] = field(default_factory=list)  # of six that each run their steps alone


@dataclass(frozen=True, slots=True)
class NetworkRecording:
    """Everything that the figures and plots of networks are made of."""

    driver: str
    way: str
    words: str
    networks: int
    nodes: int
    compared: int  # networks times nodes that were looked at
    took_s: float
    seen: Seen
    operations: list[OperationRow]
    runs: list[RunRow]
    differences: list[Difference]

    @property
    def kept_apart(self) -> set[int]:
        """All operations that shared nothing, for the comparison's sake."""
        return {id_ for ids in self.seen.apart for id_ in ids}
