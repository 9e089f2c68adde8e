"""The reconcile tick: one that creates slots by the thousand, and one that finds nothing to do among 100,000 workers."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from bench.figures import Ratio, percentile
from bench.ground import engines, settings_of, versions
from bench.result import Result
from bench.stock import Stock
from bench.wire import Traffic, counted
from config.names import SPAWN_QUEUE
from config.settings import load
from scheduler.redis.connection import connect
from tasks import reconcile
from tasks.context import Context

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis

    from bench.progress import Progress
    from config.settings import Settings
    from scheduler.store.database import Database
    from scheduler.store.slots import Slot

# No command ever runs: nobody consumes the queue. So little memory that this machine is not what bounds the tick.
_PROFILE: Final = {"command": ["true"], "memory": "1Mi"}
_COUNT: Final = "select count(*) from workers where ended_at is null"
_INSERT: Final = """
insert into workers (profile, launch_until) select %(profile)s, now() from generate_series(1, %(count)s) returning id
"""


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    slots: int
    workers: int
    rounds: int


FULL: Final = Scale(slots=1_000, workers=100_000, rounds=15)
QUICK: Final = Scale(slots=100, workers=2_000, rounds=3)


@dataclass(frozen=True)
class Tick:
    """One run of the task's body, from its first statement to the last message published."""

    total_ms: float
    publishing_ms: float
    traffic: Traffic

    @property
    def database_ms(self) -> float:
        """All that is not publishing: statements and decisions."""
        return self.total_ms - self.publishing_ms


class _Timed(Context):
    """A context that knows how long it took to publish."""

    publishing_s = 0.0

    def request_spawns(self, slots: Iterable[Slot]) -> None:
        """Publish, and add up the time."""
        began = time.perf_counter()
        super().request_spawns(slots)
        self.publishing_s += time.perf_counter() - began


def run(progress: Progress, *, quick: bool) -> Result:
    """Measure both ticks, each beside the one statement that it could at best be."""
    scale = QUICK if quick else FULL
    result = Result(settings={"scale": asdict(scale)})
    with settings_of("") as settings, engines(settings):
        result.engines = versions(settings)
        _create(scale, progress, result)
        _find_nothing(scale, progress, result)
    result.tables.append(_table(result.figures))
    return result


def _create(scale: Scale, progress: Progress, result: Result) -> None:
    context = _context(floor=scale.slots, at_most=scale.slots)
    profile = context.settings.profiles["bench"].canonical
    queue = connect(context.settings.redis_client_url)
    ticks: list[Tick] = []
    inserts_ms: list[float] = []
    for number in range(scale.rounds + 1):
        progress.say(f"a tick that creates {scale.slots:,} slots: {number} of {scale.rounds}")
        _empty(context.db, queue)
        insert_ms = _timed_ms(context.db, _INSERT, profile=profile, count=scale.slots)
        _empty(context.db, queue)
        tick, created = _tick(context)
        published: Any = queue.llen(SPAWN_QUEUE)
        assert created == {profile: scale.slots}, f"expected {scale.slots} slots, got {created}"
        assert published == scale.slots, f"expected {scale.slots} messages, got {published}"
        if number > 0:  # the first one connects and prepares
            ticks.append(tick)
            inserts_ms.append(insert_ms)
    context.db.close()
    result.ratios["create_database_vs_insert"] = Ratio.of([tick.database_ms for tick in ticks], inserts_ms)
    result.figures["create"] = _figures(ticks, baseline="bare insert of as many rows", baseline_ms=inserts_ms)


def _find_nothing(scale: Scale, progress: Progress, result: Result) -> None:
    context = _context(floor=scale.workers, at_most=scale.slots)
    profile = context.settings.profiles["bench"].canonical
    progress.say(f"{scale.workers:,} workers")
    with closing(Stock(context.settings.database_dsn, profile)) as stock:
        stock.fill(idle=scale.workers)
    ticks: list[Tick] = []
    counts_ms: list[float] = []
    for number in range(scale.rounds + 1):
        progress.say(f"a tick that finds nothing among {scale.workers:,} workers: {number} of {scale.rounds}")
        count_ms = _timed_ms(context.db, _COUNT)
        tick, created = _tick(context)
        assert created == {}, f"expected nothing to do, got {created}"
        if number > 0:
            ticks.append(tick)
            counts_ms.append(count_ms)
    context.db.close()
    result.ratios["nothing_vs_count"] = Ratio.of([tick.total_ms for tick in ticks], counts_ms)
    result.figures["nothing"] = _figures(ticks, baseline="bare count of the same index", baseline_ms=counts_ms)


def _context(*, floor: int, at_most: int) -> _Timed:
    # The app reads the settings when it is imported, so not before they are this bench's.
    from tasks import app  # noqa: PLC0415

    settings: Settings = load(
        profiles={"bench": {**_PROFILE, "floor": floor}}, bounds={"slots_per_tick": at_most, "sweep_batch": at_most}
    )
    context = _Timed(settings, app)
    context.prepare()
    return context


def _tick(context: _Timed) -> tuple[Tick, dict[str, int]]:
    context.publishing_s = 0.0
    # With one caller the pool hands out one and the same connection: its traffic is the tick's.
    with context.db.connection() as connection:
        pass
    with counted(connection) as traffic:
        began = time.perf_counter()
        created = reconcile.run(context)
        took_s = time.perf_counter() - began
    return Tick(1_000 * took_s, 1_000 * context.publishing_s, traffic), created


def _timed_ms(db: Database, sql: Any, **values: object) -> float:  # noqa: ANN401 - one of the literals above
    began = time.perf_counter()
    db.rows(sql, **values)
    return 1_000 * (time.perf_counter() - began)


def _empty(db: Database, queue: redis.Redis) -> None:
    db.rows("truncate workers, events")
    queue.delete(SPAWN_QUEUE)


def _figures(ticks: list[Tick], *, baseline: str, baseline_ms: list[float]) -> dict[str, Any]:
    totals_ms = [tick.total_ms for tick in ticks]
    return {
        "ticks": len(ticks),
        "total_ms": round(median(totals_ms), 3),
        "total_ms_p90": round(percentile(totals_ms, 0.9), 3),
        "database_ms": round(median(tick.database_ms for tick in ticks), 3),
        "publishing_ms": round(median(tick.publishing_ms for tick in ticks), 3),
        "statements": ticks[-1].traffic.statements,
        "round_trips": ticks[-1].traffic.round_trips,
        "baseline": baseline,
        "baseline_ms": round(median(baseline_ms), 3),
        "total_ms_by_round": [round(total, 3) for total in totals_ms],
    }


def _table(figures: dict[str, Any]) -> Table:
    table = Table(title="one reconcile tick (medians)", title_justify="left", header_style="bold")
    for column in (
        "tick",
        "total ms",
        "p90",
        "database ms",
        "publishing ms",
        "statements",
        "round trips",
        "baseline ms",
    ):
        table.add_column(column, justify="left" if column == "tick" else "right")
    for name, line in figures.items():
        table.add_row(
            name,
            *(f"{line[key]:.1f}" for key in ("total_ms", "total_ms_p90", "database_ms", "publishing_ms")),
            str(line["statements"]),
            str(line["round_trips"]),
            f"{line['baseline_ms']:.1f}",
        )
    return table
