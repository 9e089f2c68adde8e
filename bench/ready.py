"""The hand-over: from the instant at which a worker says that it is ready to the one at which its tenant holds it."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any, Final, LiteralString
from urllib.request import urlopen

from rich.table import Table

from bench.deployment import database_ahead_s, deployed
from bench.figures import Ratio, percentile
from bench.ground import settings_of, versions
from bench.result import Aim, Result
from scheduler.store.database import Database, Row
from tasks.pool import Held, Pool
from tasks.services import services

if TYPE_CHECKING:
    from bench.progress import Progress
    from tasks.context import Context

AIMS: Final = [Aim("ready_p50_ms", 10.0), Aim("ready_p99_ms", 50.0)]
WAIT_S: Final = 60.0
_QUIET_S_MAX: Final = 20.0
_QUIET_STEP_S: Final = 0.05

# No floor: every claim of `cold` waits for a worker of its own, which is stopped afterwards. `hot` stays its tenant's.
_SETTINGS: Final = """
[profiles.cold]
command = ["{python}", "-m", "demo.echo_server"]
memory = "64Mi"
readiness = { kind = "http", path = "/ready" }
activation = { kind = "http", path = "/activate" }
deactivation = { kind = "http", path = "/deactivate" }
hot_idle_s = 0

[profiles.hot]
command = ["{python}", "-m", "demo.echo_server"]
memory = "64Mi"
readiness = { kind = "http", path = "/ready" }
activation = { kind = "http", path = "/activate" }
deactivation = { kind = "http", path = "/deactivate" }
hot_idle_s = 3600

[launcher.process]
first_port = 27000
ports = 1000
"""


@dataclass(frozen=True)
class Scale:
    """How much is measured: so many waves of so many who wait at the same time."""

    waves: dict[int, int]


FULL: Final = Scale(waves={1: 40, 4: 20, 8: 10})
QUICK: Final = Scale(waves={1: 3, 4: 2})

# What takes part in a hand-over; the callers are this process. Flower would only take processor time from it.
SERVICES: Final = ("control", "spawn", "beat")
STAGES: Final = ("noticed", "granted", "woken", "collected", "activated", "held")


@dataclass(frozen=True)
class HandOver:
    """One worker's way to its tenant, in milliseconds since its own ready stamp.

    noticed: its row says that it is ready. granted: it is the waiting claim's. woken: the caller runs again. collected: the
    caller knows the worker. activated: the worker knows its tenant. held: claim() has returned.
    """

    noticed: float
    granted: float
    woken: float
    collected: float
    activated: float
    held: float


class _Watched(Database):
    """A database that remembers, for each thread, when its last statements began and ended."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self._mine = threading.local()

    def rows(self, sql: LiteralString, /, **values: Any) -> list[Row]:  # noqa: ANN401 - SQL parameters
        """As the database, with a stamp on either side."""
        began = time.monotonic()
        found = super().rows(sql, **values)
        self._mine.last = [*getattr(self._mine, "last", [])[-1:], (began, time.monotonic())]
        return found

    @property
    def last_two(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Begin and end of this thread's last but one statement, and of its last."""
        before, last = self._mine.last
        return before, last


def run(progress: Progress, *, quick: bool) -> Result:
    """Bring up a stack, and have tenants wait for workers in waves."""
    scale = QUICK if quick else FULL
    result = Result(settings={"scale": asdict(scale), "worker": "demo.echo_server", "services": SERVICES}, aims=AIMS)
    with settings_of(_SETTINGS) as settings:
        # The app reads the settings when it is imported, so not before they are this bench's.
        from tasks import app  # noqa: PLC0415

        progress.say("the stack comes up")
        needed = [service for service in services(settings) if service.name in SERVICES]
        with deployed(settings, app, needed, progress) as (context, _):
            result.engines = versions(settings)
            seen, hot_ms = _measure(scale, context, progress)
    _fill(result, seen, hot_ms)
    return result


def _measure(
    scale: Scale, context: Context, progress: Progress
) -> tuple[dict[int, list[list[HandOver]]], list[list[float]]]:
    db = _Watched(context.settings.database_dsn)
    pool = Pool(
        context.settings,
        db,
        context.hints,
        request_reconcile=context.request_reconcile,
        request_stop=context.request_stop,
    )
    ahead_s = database_ahead_s(db)
    seen: dict[int, list[list[HandOver]]] = {size: [] for size in scale.waves}
    hot_ms: list[list[float]] = []
    with ThreadPoolExecutor(max(scale.waves)) as callers:
        _hand_over(pool, db, ahead_s, "hot", threading.Barrier(1), 0)  # its worker stays, and so do the connections
        for number in range(max(scale.waves.values())):
            for size in [size for size, waves in scale.waves.items() if number < waves]:
                progress.say(f"{size} waiting at once, wave {number + 1} of {scale.waves[size]}")
                hot_ms.append([_hot_claim_ms(pool) for _ in range(3)])
                all_hold = threading.Barrier(size)
                wave = list(callers.map(partial(_hand_over, pool, db, ahead_s, "cold", all_hold), range(size)))
                seen[size].append([hand_over for hand_over in wave if hand_over is not None])
                _until_quiet(db)
    db.close()
    return seen, hot_ms


def _hand_over(
    pool: Pool, db: _Watched, ahead_s: float, profile: str, all_hold: threading.Barrier, number: int
) -> HandOver | None:
    """Wait for a worker, take the stamps, let it go. None: it did not have to wait, another one's worker was free."""
    held = _held(pool.claim(f"tenant-{number}", profile, wait_s=WAIT_S))
    held_at = time.monotonic()
    (woken_at, collected_at), (activated_at, _) = db.last_two
    # What follows is the bench's own work, and would be measured with whoever still waits.
    all_hold.wait(WAIT_S)
    ready_at, database_ready_at, claimed_at = _stamps(db, held)
    pool.release(held.tenant, held.worker_id, held.epoch)
    if held.origin != "waited":
        return None
    instants = (database_ready_at - ahead_s, claimed_at - ahead_s, woken_at, collected_at, activated_at, held_at)
    return HandOver(*(1_000 * (instant - ready_at) for instant in instants))


def _stamps(db: Database, held: Held) -> tuple[float, float, float]:
    """When the worker was ready by its own clock; when it was ready and when it was claimed by the database's."""
    row = db.row(
        "select extract(epoch from ready_at)::float8 as ready, extract(epoch from claimed_at)::float8 as claimed"
        " from workers where id = %(id)s",
        id=held.worker_id,
    )
    assert row is not None, "a held worker has a row"
    with urlopen(f"{held.endpoint}/health", timeout=5) as answer:  # noqa: S310 - a worker of ours on loopback
        health = json.load(answer)
    return float(health["ready_at_monotonic"]), float(row["ready"]), float(row["claimed"])


def _hot_claim_ms(pool: Pool) -> float:
    """A claim that need not wait, of the tenant's own worker: what claiming and activating cost by themselves."""
    began = time.monotonic()
    held = _held(pool.claim("tenant-0", "hot"))
    took_s = time.monotonic() - began
    pool.release(held.tenant, held.worker_id, held.epoch)
    return 1_000 * took_s


def _held(outcome: Any) -> Held:  # noqa: ANN401 - Held or Miss
    assert isinstance(outcome, Held), f"expected a worker, got {outcome}"
    return outcome


def _until_quiet(db: Database) -> None:
    """Let the released workers end: a stop that falls into the next wave would be measured with it."""
    deadline = time.monotonic() + _QUIET_S_MAX
    while time.monotonic() < deadline and db.rows(
        "select id from workers where ended_at is null and state <> 'hot_idle' limit 1"
    ):
        time.sleep(_QUIET_STEP_S)


def _fill(result: Result, seen: dict[int, list[list[HandOver]]], hot_ms: list[list[float]]) -> None:
    everything = [hand_over for waves in seen.values() for wave in waves for hand_over in wave]
    held_ms = [hand_over.held for hand_over in everything]
    result.aimed_ms["ready_p50_ms"] = percentile(held_ms, 0.5)
    result.aimed_ms["ready_p99_ms"] = percentile(held_ms, 0.99)
    rounds = [wave for waves in seen.values() for wave in waves if wave]
    hot = median(took for burst in hot_ms for took in burst)
    result.ratios["ready_vs_hot_claim"] = Ratio.over(median(one.held for one in wave) / hot for wave in rounds)
    result.figures["hot_claim_ms"] = {"p50": round(hot, 3), "claims": sum(map(len, hot_ms))}
    result.figures["at_once"] = {
        str(size): _figures([hand_over for wave in waves for hand_over in wave]) for size, waves in seen.items()
    }
    result.figures["all"] = _figures(everything)
    result.tables.append(_table(result.figures))


def _figures(hand_overs: list[HandOver]) -> dict[str, Any]:
    stamps = {stage: [getattr(one, stage) for one in hand_overs] for stage in STAGES}
    return {
        "samples": len(hand_overs),
        "ready_to": {
            stage: {"p50_ms": round(percentile(ms, 0.5), 3), "p99_ms": round(percentile(ms, 0.99), 3)}
            for stage, ms in stamps.items()
        },
        # Medians of the steps, which need not add up to the median of the whole.
        "step_p50_ms": {
            stage: round(median(b - a for a, b in zip(before, stamps[stage], strict=True)), 3)
            for stage, before in zip(STAGES, [[0.0] * len(hand_overs), *stamps.values()], strict=False)
        },
    }


def _table(figures: dict[str, Any]) -> Table:
    table = Table(title="ms since the worker's own ready stamp (p50 / p99)", title_justify="left", header_style="bold")
    for column in ("waiting at once", "samples", *STAGES):
        table.add_column(column, justify="right")
    for name, line in {**figures["at_once"], "all": figures["all"]}.items():
        cells = (f"{of['p50_ms']:.1f} / {of['p99_ms']:.1f}" for of in line["ready_to"].values())
        table.add_row(name, str(line["samples"]), *cells)
    table.add_row("steps of all", "", *(f"{step:.1f}" for step in figures["all"]["step_p50_ms"].values()))
    return table
