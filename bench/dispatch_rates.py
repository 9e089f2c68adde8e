"""Tasks a second of a warm worker that has a backlog."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.dispatch_app import PREFORK, THREADS, WAYS
from scheduler.errors import Temporary

if TYPE_CHECKING:
    from bench.dispatch_workers import Ground
    from bench.progress import Progress

_LOOK_S: Final = 0.02
_WARM: Final = 0.2  # of the backlog
_WAIT_S: Final = 60.0
# By situation and way the tasks a second of each round.
Rates = dict[str, dict[str, list[float]]]
SLOTS: Final = {PREFORK: 2, THREADS: 8}


@dataclass(frozen=True)
class Situation:
    """What a worker is like, and over how many queues its backlog stands."""

    name: str
    pool: str
    queues: int
    acks_late: bool = True
    multiplier: int = 1


PLAIN: Final = (Situation("prefork", PREFORK, 1), Situation("threads", THREADS, 1))
FIVE: Final = (Situation("prefork_5_queues", PREFORK, 5), Situation("threads_5_queues", THREADS, 5))
EARLY: Final = (
    Situation("prefork_early_acks", PREFORK, 1, acks_late=False, multiplier=4),
    Situation("threads_early_acks", THREADS, 1, acks_late=False, multiplier=4),
)


def measure(ground: Ground, situations: dict[Situation, int], tasks: int, progress: Progress) -> Rates:
    """So many rounds of each situation. The ways take turns, and so does who begins."""
    found: Rates = {one.name: {way: [] for way in WAYS} for one in situations}
    for number in range(max(situations.values())):
        for one in (one for one, rounds in situations.items() if number < rounds):
            progress.say(f"tasks/s, round {number + 1}: {one.name}")
            for turn in range(len(WAYS)):
                way = WAYS[(turn + number) % len(WAYS)]
                found[one.name][way].append(_rate(ground, way, one, tasks))
    return found


def _rate(ground: Ground, way: str, one: Situation, tasks: int) -> float:
    queues = tuple(f"q{number}" for number in range(one.queues))
    ground.client(way).ask("fill", queues=queues, count=tasks)
    worker = ground.start(way, one.pool, SLOTS[one.pool], *queues, acks_late=one.acks_late, multiplier=one.multiplier)
    seen = []
    deadline = time.monotonic() + _WAIT_S
    while left := ground.backlog(*queues):
        now = time.monotonic()
        if now > deadline:
            raise Temporary(
                f"{one.name} on {way} is not done",
                expected=f"{tasks} tasks within {_WAIT_S:g} s",
                got=f"{left} left",
                remedy="see if the machine is busy",
            )
        if tasks - left >= _WARM * tasks:
            seen.append((now, left))
        time.sleep(_LOOK_S)
    ground.kill(worker)
    ground.clear()
    # Between two looks, both while it was at work: a look is exact, however rare looks are.
    assert len(seen) > 1, f"{tasks} tasks are too few to be looked at twice"
    (began, most), (ended, least) = seen[0], seen[-1]
    return (most - least) / (ended - began)
