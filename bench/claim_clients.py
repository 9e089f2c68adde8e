"""Client processes that claim in bursts, each in a closed loop, all beginning at the same instant of the clock they share."""

from __future__ import annotations

import multiprocessing
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from bench.claim_ways import Way, ways

if TYPE_CHECKING:
    from multiprocessing.connection import Connection as Pipe
    from multiprocessing.context import ForkServerProcess
    from types import TracebackType

_START_IN_S: Final = 0.01
_ANSWER_S_MAX: Final = 60.0


@dataclass(frozen=True)
class Burst:
    """So many claims by each of so many clients, one after the other, for tenants drawn at random."""

    dsn: str
    way: str
    clients: int
    each: int
    tenants: int
    seed: int


@dataclass(frozen=True)
class Taken:
    """What the clients of some bursts came to."""

    latencies_ms: list[float]
    wall_s: float  # from the common beginning to the end of the last client, summed over the bursts
    clients: int

    @property
    def per_s(self) -> float:
        """Claims a second while all clients were at it."""
        return 1_000 * self.clients * len(self.latencies_ms) / sum(self.latencies_ms)

    @property
    def per_s_of_wall(self) -> float:
        """Claims a second of the clock, until the last client had ended."""
        return len(self.latencies_ms) / self.wall_s

    @classmethod
    def together(cls, bursts: list[Taken]) -> Taken:
        """Several bursts of one kind as one."""
        latencies_ms = [latency for burst in bursts for latency in burst.latencies_ms]
        return cls(latencies_ms, sum(burst.wall_s for burst in bursts), bursts[0].clients)


class Clients:
    """Processes with connections of their own, kept over the whole bench."""

    def __init__(self, count: int) -> None:
        # Forked from a process that has one thread and all modules: fast to start, and no lock is copied half-held.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._pipes: list[Pipe] = []
        self._processes: list[ForkServerProcess] = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Self:
        """They live as long as the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End them."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(_ANSWER_S_MAX)

    def run(self, burst: Burst) -> Taken:
        """Have the first `burst.clients` of them claim at the same time."""
        active = self._pipes[: burst.clients]
        begin_at = time.monotonic() + _START_IN_S
        for number, pipe in enumerate(active):
            pipe.send((burst, begin_at, burst.seed * 1_000 + number))
        latencies_ms: list[float] = []
        wall_s = 0.0
        for pipe in active:
            if not pipe.poll(_ANSWER_S_MAX):
                msg = f"a client of {burst} does not answer"
                raise TimeoutError(msg)
            answer = pipe.recv()
            if isinstance(answer, Exception):
                raise answer
            mine, took_s = answer
            latencies_ms += mine
            wall_s = max(wall_s, took_s)
        return Taken(latencies_ms, wall_s, burst.clients)


def _serve(pipe: Pipe) -> None:
    known: dict[str, dict[str, Way]] = {}
    with pipe:
        while True:
            try:
                burst, begin_at, seed = pipe.recv()
            except EOFError:
                return
            try:
                if burst.dsn not in known:
                    known[burst.dsn] = ways(burst.dsn)
                pipe.send(_claim(burst, begin_at, random.Random(seed), known[burst.dsn][burst.way]))
            except Exception as error:  # noqa: BLE001 - whatever it is, the bench's own process reports it
                pipe.send(RuntimeError(f"{burst}: {error!r}"))


def _claim(burst: Burst, begin_at: float, chance: random.Random, claim: Way) -> tuple[list[float], float]:
    tenants = [f"tenant-{chance.randrange(burst.tenants)}" for _ in range(burst.each)]
    latencies_ms: list[float] = []
    time.sleep(max(0.0, begin_at - time.monotonic()))
    for tenant in tenants:
        began = time.perf_counter()
        worker = claim(tenant)
        latencies_ms.append((time.perf_counter() - began) * 1_000)
        if worker is None:
            msg = "found no idle worker, though there are more of them than claims"
            raise RuntimeError(msg)
    return latencies_ms, time.monotonic() - begin_at
