"""An idle worker: what it asks its broker, and how soon it begins what is published to it; and what publishing costs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bench.dispatch_app import PREFORK, THREADS, WAYS
from bench.dispatch_rates import SLOTS

if TYPE_CHECKING:
    from bench.dispatch_workers import Ground
    from bench.progress import Progress

_PAUSE_S: Final = 0.01
_UNSERVED: Final = "unserved"
# Of whoever measures.
_OWN: Final = {"info"}


@dataclass
class Asking:
    """Commands a second of an idle worker."""

    by_total: float
    by_command: dict[str, float]


@dataclass
class Publishing:
    """Messages a second of each round."""

    singly: list[float] = field(default_factory=list)
    batch: list[float] = field(default_factory=list)


@dataclass
class FanOut:
    """Launches published in one go, in ms."""

    published_ms: list[float] = field(default_factory=list)
    begun_ms: list[float] = field(default_factory=list)


def ask(
    ground: Ground, numbers: tuple[int, ...], settled_s: float, window_s: float, progress: Progress
) -> dict[int, dict[str, Asking]]:
    """By number of queues and way."""
    found: dict[int, dict[str, Asking]] = {number: {} for number in numbers}
    for number in numbers:
        for way in WAYS:
            progress.say(f"an idle worker of {number} queues: {way}")
            queues = tuple(f"q{place}" for place in range(number))
            worker = ground.started(way, THREADS, SLOTS[THREADS], *queues)
            ground.client(way).ask("latencies_ms", queue=queues[-1], count=3, pause_s=_PAUSE_S)  # connections are open
            time.sleep(settled_s)
            found[number][way] = _asking(ground, window_s)
            ground.kill(worker)
            ground.clear()
    return found


def latencies(ground: Ground, rounds: int, each: int, progress: Progress) -> dict[str, dict[str, list[list[float]]]]:
    """By pool and way the ms from publish to start of each round."""
    found: dict[str, dict[str, list[list[float]]]] = {pool: {way: [] for way in WAYS} for pool in SLOTS}
    for pool in SLOTS:
        progress.say(f"from publish to start: {pool}")
        # Each has a queue of its own, so that both workers stand there at the same time, and are asked in turn.
        workers = [ground.started(way, pool, SLOTS[pool], f"q-{way}") for way in WAYS]
        for number in range(rounds + 1):
            for turn in range(len(WAYS)):
                way = WAYS[(turn + number) % len(WAYS)]
                took = ground.client(way).ask(
                    "latencies_ms", queue=f"q-{way}", count=each if number else 3, pause_s=_PAUSE_S
                )
                if number:
                    found[pool][way].append(took)
        for worker in workers:
            ground.kill(worker)
        ground.clear()
    return found


def fan_outs(ground: Ground, rounds: int, launches: int, progress: Progress) -> dict[str, FanOut]:
    """By way; to a worker of the prefork pool that is idle."""
    found = {way: FanOut() for way in WAYS}
    workers = [ground.started(way, PREFORK, SLOTS[PREFORK], f"q-{way}") for way in WAYS]
    for number in range(rounds + 1):
        progress.say(f"{launches} launches in one go, round {number} of {rounds}")
        for turn in range(len(WAYS)):
            way = WAYS[(turn + number) % len(WAYS)]
            published_s, begun_s = ground.client(way).ask("fan_out", queue=f"q-{way}", count=launches if number else 10)
            if number:
                found[way].published_ms.append(1e3 * published_s)
                found[way].begun_ms.append(1e3 * begun_s)
    for worker in workers:
        ground.kill(worker)
    ground.clear()
    return found


def publish(ground: Ground, rounds: int, each: int, progress: Progress) -> dict[str, Publishing]:
    """By way; where nothing consumes."""
    found = {way: Publishing() for way in WAYS}
    for number in range(rounds + 1):
        progress.say(f"publishing, round {number} of {rounds}")
        for turn in range(len(WAYS)):
            way = WAYS[(turn + number) % len(WAYS)]
            client, many = ground.client(way), each if number else 10
            singly_s = client.ask("singly", queue=_UNSERVED, count=many)
            batch_s = client.ask("fill", queues=(_UNSERVED,), count=many)
            ground.clear()
            if number:
                found[way].singly.append(many / singly_s)
                found[way].batch.append(many / batch_s)
    return found


def _asking(ground: Ground, window_s: float) -> Asking:
    before, total_before, at = *_commands(ground), time.monotonic()
    time.sleep(window_s)
    after, total_after, took_s = *_commands(ground), time.monotonic() - at
    calls = {name: after[name] - before.get(name, 0) for name in after if name not in _OWN}
    # The second look's INFO is not in its own answer, the first one's is.
    return Asking(
        by_total=(total_after - total_before - 1) / took_s,
        by_command={name: count / took_s for name, count in sorted(calls.items()) if count},
    )


def _commands(ground: Ground) -> tuple[dict[str, int], int]:
    facts: Any = ground.redis.info("commandstats", "stats")
    calls = {
        name.removeprefix("cmdstat_"): told["calls"] for name, told in facts.items() if name.startswith("cmdstat_")
    }
    return calls, int(facts["total_commands_processed"])
