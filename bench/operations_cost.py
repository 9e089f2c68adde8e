"""What an operation costs in SQL, counted on the wire: to submit it, and in the worker that runs its steps."""

from __future__ import annotations

import signal
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from scheduler.store.database import Database
from tasks.context import Context

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.tap import Asked, Tap
    from scheduler.store.operations import Operation
    from tasks.up import Stack

FOLDED: Final = 8
_WAIT_S: Final = 60.0


@dataclass(frozen=True)
class Cost:
    """Of one operation of a kind; of one more of them, where it folds."""

    name: str
    steps: float
    submit_statements: float
    submit_trips: float
    run_statements: float
    run_trips: float

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


@dataclass(frozen=True)
class TappedWorker:
    """The worker that runs the steps of one node, and what it asks of SQL."""

    stack: Stack
    service: str
    node: str
    tap: Tap


class _Counter:
    """Submits, waits, and says what went over the wire meanwhile."""

    def __init__(self, context: Context, worker: TappedWorker, submitting: Tap) -> None:
        self._context, self._worker, self._submitting = context, worker, submitting

    def count(self, submits: Sequence[Callable[[], Operation]]) -> tuple[Asked, Asked, int]:
        """All are submitted before the first one runs; statements to submit and to run them, and their steps."""
        self._worker.stack.kill(self._worker.service, signal.SIGSTOP)
        try:
            before, ran = self._submitting.asked, self._worker.tap.asked
            operations = [submit() for submit in submits]
            submitted = self._submitting.asked - before
        finally:
            self._worker.stack.kill(self._worker.service, signal.SIGCONT)
        rows = {one.id: self._context.operations.wait(one.id, _WAIT_S) for one in operations}
        assert all(row["state"] == "succeeded" for row in rows.values()), f"expected success, got {rows}"
        return submitted, self._worker.tap.asked - ran, sum(row["steps"] for row in rows.values())


def count_costs(context: Context, worker: TappedWorker, submitting: Tap, times: int) -> list[Cost]:
    """Each kind so many times. The least counts: a lease that is renewed in between is no operation's."""
    counted = Context(context.settings, context.app)
    counted.db = Database(submitting.url)
    with closing(counted):
        counter, node = _Counter(context, worker, submitting), worker.node
        numbers = iter(range(1_000_000))

        def create() -> Operation:
            number = next(numbers)
            return counted.networks.create(f"count{number}", f"10.{100 + number // 256}.{number % 256}.0/24", node=node)

        def refresh() -> Operation:
            return counted.operations.submit("network.refresh", "count0")

        def plug() -> Operation:
            return counted.networks.plug("count0", f"port{next(numbers)}", node)[0]

        counter.count([create])  # opens the connections, and statements are prepared when they are run again
        for submit in (refresh, plug) * 3:
            counter.count([submit])
        found = [
            _one(name, [counter.count([submit]) for _ in range(times)])
            for name, submit in (("network.create", create), ("network.refresh", refresh), ("interface.plug", plug))
        ]
        for name, submit in (("network.refresh", refresh), ("interface.plug", plug)):
            alone = _least([counter.count([submit]) for _ in range(times)])
            crowded = _least([counter.count([submit] * (1 + FOLDED)) for _ in range(times)])
            found.append(_one_more(f"one more {name} while one is queued", alone, crowded))
    return found


def _one(name: str, counts: list[tuple[Asked, Asked, int]]) -> Cost:
    submitted, ran, steps = _least(counts)
    return Cost(name, steps, submitted.statements, submitted.round_trips, ran.statements, ran.round_trips)


def _one_more(name: str, alone: tuple[Asked, Asked, int], crowded: tuple[Asked, Asked, int]) -> Cost:
    submitted, ran = crowded[0] - alone[0], crowded[1] - alone[1]
    return Cost(
        name,
        (crowded[2] - alone[2]) / FOLDED,
        submitted.statements / FOLDED,
        submitted.round_trips / FOLDED,
        ran.statements / FOLDED,
        ran.round_trips / FOLDED,
    )


def _least(counts: list[tuple[Asked, Asked, int]]) -> tuple[Asked, Asked, int]:
    return min(counts, key=lambda count: (count[1].statements, count[0].statements))
