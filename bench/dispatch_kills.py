"""Workers killed at random instants under load: which messages are never seen again."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from bench.dispatch_app import ACKNOWLEDGED, DONE, PREFORK, STOKER, THREADS, UNACKED, WAYS
from bench.dispatch_rates import SLOTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.dispatch_workers import Ground
    from bench.progress import Progress

# Queue -> the pool that serves it, and how.
KINDS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    f"{pool}_{name}": (pool, how)
    for pool in (PREFORK, THREADS)
    for name, how in {
        "late": {"acks_late": True, "multiplier": 1},
        "early": {"acks_late": False, "multiplier": 4},
    }.items()
}
_PAUSE_S_MAX: Final = 0.3
_LAST: Final = f"{THREADS}_late"  # of this kind is who takes what is left
_LOOK_S: Final = 0.1
_DRAINED_S: Final = 90.0


@dataclass(frozen=True)
class Load:
    """What is killed, and what it is doing then."""

    kills: int  # of Stoker's workers
    kills_stock: int
    workers: int  # of a kind
    queued: int  # messages that stand in a queue, at least
    restores_after_s: float  # what a killed worker held


@dataclass
class Fate:
    """What became of the messages of one kind."""

    kills: int = 0
    published: int = 0
    lost: int = 0  # not acknowledged, not done, not queued, not held
    begun_and_gone: int = 0  # acknowledged before it ran, and not done
    duplicates: int = 0  # runs beyond the first
    left: int = 0  # queued or held when patience ended

    @classmethod
    def of_all(cls, fates: Iterable[Fate]) -> Fate:
        """All of these together."""
        sums: Counter[str] = Counter()
        for fate in fates:
            sums.update(asdict(fate))
        return cls(**sums)


@dataclass
class Killing:
    """The kills of one way."""

    ground: Ground
    way: str
    load: Load
    rng: random.Random

    def run(self, progress: Progress) -> dict[str, Fate]:
        """By kind, one after the other; what the dead held is taken by others after the last."""
        kills = (self.load.kills if self.way == STOKER else self.load.kills_stock) // len(KINDS)
        client = self.ground.client(self.way)
        published: dict[str, int] = {}
        for kind in KINDS:
            progress.say(f"kill -9, {self.way}: {kills} workers, {kind}")
            client.ask("keep_filled", queues=(kind,), least=self.load.queued)
            self._kill(kind, kills)
            published |= client.ask("stop_filling")
        progress.say(f"kill -9, {self.way}: what still comes")
        self._drain()
        fates = self._judge(published)
        self.ground.clear()
        for fate in fates.values():
            fate.kills = kills
        return fates

    def _kill(self, kind: str, kills: int) -> None:
        """So many, each at a random instant; others are started in their places, but for the last."""
        ready: list[str] = []
        for _ in range(min(self.load.workers, kills)):
            self._start(*KINDS[kind], kind)
        for number in range(kills):
            ready += self.ground.all_ready() or ([] if ready else [self.ground.next_ready()])
            time.sleep(self.rng.uniform(0.02, _PAUSE_S_MAX))
            victim = ready.pop(self.rng.randrange(len(ready)))
            self.ground.kill(victim)
            if number + self.load.workers < kills:
                self._start(*KINDS[kind], kind)

    def _start(self, pool: str, how: dict[str, Any], *queues: str) -> None:
        held = self.load.restores_after_s
        self.ground.start(self.way, pool, SLOTS[pool], *queues, **how, restores_after_s=held, records=True)

    def _drain(self) -> None:
        """Until all is done, or nothing more can be hoped for."""
        self._start(*KINDS[_LAST], *KINDS)
        worker = self.ground.next_ready()
        deadline = time.monotonic() + _DRAINED_S
        # Seen twice: once, it may be what kombu has popped and not recorded yet.
        while self._backlog() + self._backlog() and time.monotonic() < deadline:
            pass
        self.ground.kill(worker)

    def _backlog(self) -> int:
        time.sleep(_LOOK_S)
        return self.ground.backlog(*KINDS)

    def _judge(self, published: dict[str, int]) -> dict[str, Fate]:
        redis = self.ground.redis
        done: Any = redis.hgetall(DONE)
        acknowledged: Any = redis.smembers(ACKNOWLEDGED)
        held: Any = redis.hvals(UNACKED)
        left = {json.loads(text)[0]["headers"]["id"] for text in held}
        for kind in KINDS:
            queued: Any = redis.lrange(kind, 0, -1)
            left |= {json.loads(text)["headers"]["id"] for text in queued}
        fates = {kind: Fate(published=count) for kind, count in published.items()}
        for kind, fate in fates.items():
            for number in range(fate.published):
                name = f"{kind}.{number}"
                if name in done:
                    fate.duplicates += int(done[name]) - 1
                elif name in left:
                    fate.left += 1
                elif name in acknowledged:
                    fate.begun_and_gone += 1
                else:
                    fate.lost += 1
        return fates


def measure(ground: Ground, load: Load, seed: int, progress: Progress) -> dict[str, dict[str, Fate]]:
    """By way and kind; each way with the same seed."""
    return {way: Killing(ground, way, load, random.Random(seed)).run(progress) for way in WAYS}
