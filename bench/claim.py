"""Claims: latency and throughput of the real claim, beside the bare statement and seven round trips on the same table."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from bench.claim_clients import Burst, Clients, Taken
from bench.claim_ways import PROFILE, WAYS
from bench.figures import Ratio, percentile
from bench.ground import database_beside, engines, settings_of, versions
from bench.result import Aim, Result
from bench.stock import Stock
from scheduler.store.migrate import migrate

if TYPE_CHECKING:
    from bench.progress import Progress

AIMS: Final = [Aim("claim_vs_statement", 1.3), Aim("claim_vs_seven_trips", 0.35), Aim("rows_100k_vs_100", 1.3)]


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rows: tuple[int, ...]
    clients: tuple[int, ...]
    rounds: int
    round_s: float
    tenants: int = 200  # so many that their rows are no bottleneck


FULL: Final = Scale(rows=(100, 10_000, 100_000), clients=(1, 8, 32), rounds=11, round_s=1.2)
QUICK: Final = Scale(rows=(100, 1_000), clients=(1, 8), rounds=2, round_s=0.15)
RATIO_CLIENTS: Final = 8
# The most of the stock that one burst takes, so that the number of workers in the table stays what the figure says.
STOCK_USED: Final = 0.32
BURST_MAX: Final = 25


@dataclass(frozen=True)
class Cell:
    """One situation: so many workers in the table, so many clients, so many tenants that they claim for."""

    rows: int
    clients: int
    tenants: int


Measured = dict[Cell, dict[str, list[Taken]]]


def run(progress: Progress, *, quick: bool) -> Result:
    """Measure every situation, the three ways in turn, round by round."""
    scale = QUICK if quick else FULL
    with settings_of("") as settings, engines(settings), ExitStack() as open_:
        stocks: dict[int, Stock] = {}
        for rows in scale.rows:
            progress.say(f"{rows:,} rows")
            dsn = open_.enter_context(database_beside(settings.database_dsn, f"stoker_bench_{os.getpid()}_{rows}"))
            stocks[rows] = open_.enter_context(closing(_stock(dsn, rows, scale.tenants)))
        clients = open_.enter_context(Clients(max(scale.clients)))
        cells = [Cell(rows, count, scale.tenants) for rows in scale.rows for count in scale.clients]
        cells.append(Cell(_middle(scale.rows), RATIO_CLIENTS, 1))
        measured = _measure(cells, clients, stocks, scale, progress)
        return _result(scale, measured, versions(settings))


def _stock(dsn: str, rows: int, tenants: int) -> Stock:
    """A database of this version, and in it so many idle workers."""
    migrate(dsn)
    found = Stock(dsn, PROFILE)
    found.fill(idle=rows, tenants=[f"tenant-{number}" for number in range(tenants)])
    return found


def _measure(
    cells: list[Cell], clients: Clients, stocks: dict[int, Stock], scale: Scale, progress: Progress
) -> Measured:
    measured: Measured = {cell: {way: [] for way in WAYS} for cell in cells}
    for number in range(scale.rounds + 1):
        for cell in cells:
            progress.say(f"round {number} of {scale.rounds}: {cell.rows:,} rows, {cell.clients} clients")
            taken = _round(cell, clients, stocks[cell.rows], scale.round_s, seed=number)
            if number > 0:  # in the first round connections are opened, statements prepared, plans settled
                for way in WAYS:
                    measured[cell][way].append(taken[way])
    return measured


def _round(cell: Cell, clients: Clients, stock: Stock, seconds: float, seed: int) -> dict[str, Taken]:
    """For so many seconds bursts of the three ways in turn, so that what else the machine does falls on all of them.

    The stock is made up between bursts, when no claim is under way.
    """
    each = max(1, min(BURST_MAX, int(cell.rows * STOCK_USED / cell.clients)))
    bursts: dict[str, list[Taken]] = {way: [] for way in WAYS}
    end_at = time.monotonic() + seconds
    turn = seed  # a different one first in every round, so that none always follows the same one
    while time.monotonic() < end_at or turn < seed + len(WAYS):
        way = WAYS[turn % len(WAYS)]
        burst = Burst(stock.dsn, way, cell.clients, each, cell.tenants, seed=seed * 1_000 + turn)
        bursts[way].append(clients.run(burst))
        stock.replace()
        turn += 1
    return {way: Taken.together(taken) for way, taken in bursts.items()}


def _result(scale: Scale, measured: Measured, ran_on: dict[str, str]) -> Result:
    result = Result(settings={"scale": asdict(scale), "ratio_clients": RATIO_CLIENTS}, engines=ran_on, aims=AIMS)
    middle, least, most = _middle(scale.rows), scale.rows[0], scale.rows[-1]
    spread = {rows: Cell(rows, RATIO_CLIENTS, scale.tenants) for rows in scale.rows}

    def ratio(cell: Cell, baseline: str) -> Ratio:
        return Ratio.of(_p50s(measured[cell]["stoker"]), _p50s(measured[cell][baseline]))

    result.ratios["claim_vs_statement"] = ratio(spread[middle], "statement")
    result.ratios["claim_vs_seven_trips"] = ratio(spread[middle], "seven_trips")
    result.ratios[f"rows_{_short(most)}_vs_{_short(least)}"] = Ratio.of(
        _p50s(measured[spread[most]]["stoker"]), _p50s(measured[spread[least]]["stoker"])
    )
    for cell in measured:
        name = f"{_short(cell.rows)}_rows_{cell.clients}_clients" + ("_one_tenant" if cell.tenants == 1 else "")
        result.ratios[f"claim_vs_statement_at_{name}"] = ratio(cell, "statement")
        result.ratios[f"claim_vs_seven_trips_at_{name}"] = ratio(cell, "seven_trips")
    result.figures["claims"] = [
        _figures(cell, way, taken) for cell, ways in measured.items() for way, taken in ways.items()
    ]
    result.tables.append(_table(result.figures["claims"]))
    return result


def _p50s(slices: list[Taken]) -> list[float]:
    return [percentile(taken.latencies_ms, 0.5) for taken in slices]


def _figures(cell: Cell, way: str, slices: list[Taken]) -> dict[str, Any]:
    latencies_ms = [latency for taken in slices for latency in taken.latencies_ms]
    return {
        "rows": cell.rows,
        "clients": cell.clients,
        "tenants": cell.tenants,
        "way": way,
        "claims": len(latencies_ms),
        "p50_ms": round(percentile(latencies_ms, 0.5), 4),
        "p99_ms": round(percentile(latencies_ms, 0.99), 4),
        "p50_ms_by_round": [round(p50, 4) for p50 in _p50s(slices)],
        "claims_per_s": round(median(taken.per_s for taken in slices), 1),
        "claims_per_s_of_wall": round(median(taken.per_s_of_wall for taken in slices), 1),
    }


def _table(figures: list[dict[str, Any]]) -> Table:
    table = Table(title="claims", title_justify="left", header_style="bold")
    for column in ("rows", "clients", "tenants", "way", "p50 ms", "p99 ms", "claims/s", "claims/s of wall"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for line in figures:
        table.add_row(
            f"{line['rows']:,}",
            str(line["clients"]),
            str(line["tenants"]),
            line["way"],
            f"{line['p50_ms']:.2f}",
            f"{line['p99_ms']:.2f}",
            f"{line['claims_per_s']:,.0f}",
            f"{line['claims_per_s_of_wall']:,.0f}",
            end_section=line["way"] == WAYS[-1],
        )
    return table


def _middle(rows: tuple[int, ...]) -> int:
    return rows[len(rows) // 2]


def _short(count: int) -> str:
    return f"{count // 1_000}k" if count >= 1_000 else str(count)
