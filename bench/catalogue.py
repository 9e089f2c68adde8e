"""The benches there are."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from bench.progress import Progress
    from bench.result import Result


class Run(Protocol):
    """What a bench's module calls `run`."""

    def __call__(self, progress: Progress, *, quick: bool) -> Result:
        """Measure."""


@dataclass(frozen=True)
class Bench:
    """A bench by name. Its module is imported only to run it."""

    name: str
    measures: str

    def run(self, progress: Progress, *, quick: bool) -> Result:
        """Measure; quick finds out whether the bench works, not how fast anything is."""
        measure: Run = import_module(f"bench.{self.name}").run
        return measure(progress, quick=quick)


BENCHES: Final = {
    bench.name: bench
    for bench in (
        Bench("claim", "a claim beside the bare statement that it could at best be, and beside seven round trips"),
        Bench("reconcile", "a tick that creates 1,000 slots, and one that finds nothing to do among 100,000 workers"),
        Bench("ready", "from a worker becoming ready to its waiting tenant holding it"),
        Bench(
            "coalesce",
            "requests for one effect: plain Celery, Stoker, celery-singleton and celery-once beside each other",
        ),
        Bench("operations", "from an operation's end to its waiter's wake-up, and what an operation costs in SQL"),
        Bench("dispatch", "the queue transport beside kombu's: tasks a second, idle commands, losses by kill -9"),
        Bench("schedule", "beat: from an edit to its effect, from a death to the next message; RedBeat beside it"),
        Bench(
            "fairness",
            "how long messages wait under overload and flood: Stoker's transport and kombu's own beside each other",
        ),
    )
}
