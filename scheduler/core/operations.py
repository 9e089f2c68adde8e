"""The life of an operation and of its runs, what an operation does step by step, and how steps are named as Celery tasks."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from scheduler.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable


class OperationState(StrEnum):
    """Where an operation is in its life."""

    WAITING = "waiting"  # for operations that it needs, or comes after
    QUEUED = "queued"  # no step of it has begun
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RunState(StrEnum):
    """Where one run of a step is, for the operations that share it."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRIED = "retried"  # ended with an error, and is to run again
    LOST = "lost"  # its worker died, or nothing was heard of it for a lease


_O = OperationState
TRANSITIONS: Final[dict[OperationState, frozenset[OperationState]]] = {
    _O.WAITING: frozenset({_O.QUEUED, _O.FAILED, _O.CANCELLED}),
    _O.QUEUED: frozenset({_O.RUNNING, _O.SUCCEEDED, _O.FAILED, _O.CANCELLED}),
    _O.RUNNING: frozenset({_O.SUCCEEDED, _O.FAILED, _O.CANCELLED}),
    _O.SUCCEEDED: frozenset(),
    _O.FAILED: frozenset(),
    _O.CANCELLED: frozenset(),
}
ENDED: Final = frozenset(state for state, after in TRANSITIONS.items() if not after)

_TASK_ID: Final = re.compile(r"op(\d+)\.(\d+)-([0-9a-f]{8})")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an operation: a task, its arguments, and the node whose worker runs it ('' for any)."""

    task: str
    arguments: dict[str, str]
    node: str = ""
    apart: str = ""  # it shares runs only with steps of the same mark

    def to_json(self) -> dict[str, Any]:
        """As it stands in the database."""
        written = {"task": self.task, "arguments": self.arguments, "node": self.node}
        return {**written, "apart": self.apart} if self.apart else written


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of an operation in their order, and the tasks of those that an equal later one stands for."""

    steps: tuple[Step, ...]
    spared: tuple[str, ...] = ()

    @property
    def folded(self) -> int:
        """Steps that an equal later one stands for."""
        return len(self.spared)

    def kept_apart(self, mark: str) -> Plan:
        """The same, sharing no run with what has another mark."""
        return replace(self, steps=tuple(replace(step, apart=mark) for step in self.steps))


class Place(NamedTuple):
    """Which step of which operation a Celery task is."""

    operation: int
    position: int
    token: str


def plan(asked: Iterable[Step]) -> Plan:
    """Each step once (I26). Of equal ones the last stays: what comes between may be what it has to see."""
    kept: list[Step] = []
    spared: list[str] = []
    for step in reversed(list(asked)):
        if step in kept:
            spared.append(step.task)
        else:
            kept.append(step)
    return Plan(tuple(reversed(kept)), tuple(reversed(spared)))


def task_id(place: Place) -> str:
    """The Celery id of a step. The token tells operations of one number apart that two databases have had."""
    return f"op{place.operation}.{place.position}-{place.token}"


def place(task_id: str) -> Place:
    """Which step a Celery id names."""
    found = _TASK_ID.fullmatch(task_id)
    if found is None:
        raise Refused(
            "task id of a step",
            expected="op<operation>.<position>-<token>",
            got=repr(task_id)[:80],
            remedy="submit an operation; its steps are not called by themselves",
        )
    return Place(int(found[1]), int(found[2]), found[3])


def may_become(state: OperationState, after: OperationState) -> bool:
    """Whether one step of a life may lead from one state to the other."""
    return after in TRANSITIONS[state]
