"""Requests for one effect: what they cost, how often it runs, and who keeps what, beside the usual ways to run a task once."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from rich.table import Table

from bench import coalesce_behaviour, coalesce_burst, coalesce_submits
from bench.coalesce_app import SERVED, SHORT_S, STOCK, STOKER, Board, build, ways
from bench.coalesce_behaviour import PATIENCE_LEASES, SURVIVOR, VICTIM, Behaviour
from bench.coalesce_workers import Workers
from bench.figures import Ratio
from bench.ground import broker, broker_version, settings_of
from bench.result import Aim, Result

if TYPE_CHECKING:
    from bench.coalesce_burst import Burst
    from bench.coalesce_submits import Measured
    from bench.progress import Progress
    from config.settings import Settings

AIMS: Final = [Aim("lead_vs_plain", at_least=0.9), Aim("fold_vs_plain", at_least=6.0)]
BURST_SLOTS: Final = 32  # so many threads that the held runs of all experiments are under way at once


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int
    submits: int  # of one way in a round
    burst_rounds: int
    burst: int
    lease_s: float  # a run of which nothing is heard is dead; and the locks of peers that expire do so after it


FULL: Final = Scale(rounds=25, submits=200, burst_rounds=5, burst=1_000, lease_s=2.0)
QUICK: Final = Scale(rounds=3, submits=30, burst_rounds=1, burst=100, lease_s=1.0)


def run(progress: Progress, *, quick: bool) -> Result:
    """Submits where nothing consumes; then bursts and experiments where real workers do."""
    scale = QUICK if quick else FULL
    told = {"scale": asdict(scale), "task_s": SHORT_S, "patience_s": PATIENCE_LEASES * scale.lease_s}
    result = Result(settings=told, aims=AIMS)
    with settings_of("") as settings, broker(settings):
        result.engines = broker_version(settings)
        submits = coalesce_submits.measure(settings.broker_url, scale.lease_s, scale.rounds, scale.submits, progress)
        _tell_submits(result, submits)
        bursts, behaviour = _with_workers(settings, scale, progress)
    _tell_bursts(result, bursts)
    result.findings["behaviour"] = {way: found.as_json() for way, found in behaviour.items()}
    result.tables.append(_table_of_behaviour(behaviour, PATIENCE_LEASES * scale.lease_s))
    return result


def _with_workers(
    settings: Settings, scale: Scale, progress: Progress
) -> tuple[dict[str, list[Burst]], dict[str, Behaviour]]:
    url = settings.broker_url
    with closing(Board(url)) as board, closing(Workers(url, scale.lease_s, settings.locations.logs, board)) as workers:
        progress.say("workers start")
        workers.start(SURVIVOR, SERVED, slots=BURST_SLOTS)
        workers.start(VICTIM, VICTIM, slots=BURST_SLOTS)
        workers.until_ready()
        with closing(build(url, scale.lease_s)) as app:
            bursts = coalesce_burst.measure(
                app, workers, coalesce_submits.WAYS, scale.burst_rounds, scale.burst, progress
            )
            stage = coalesce_behaviour.Stage(app, workers, tuple(ways(scale.lease_s)))
            stage.run(progress)
    return bursts, stage.found


def _tell_submits(result: Result, submits: Measured) -> None:
    for mode, taken in submits.items():
        for way in coalesce_submits.WAYS[1:]:
            # Submits a second by those of plain Celery: microseconds the other way round.
            result.ratios[_name(f"{mode}_vs_plain", way)] = Ratio.of(taken[STOCK], taken[way])
    result.figures["submit_us"] = {
        mode: {way: {"median": round(median(us), 1), "lowest": round(min(us), 1)} for way, us in taken.items()}
        for mode, taken in submits.items()
    }
    table = Table(title="microseconds a submit (median round)", title_justify="left", header_style="bold")
    for column in ("way", "leading", "folding"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for way in coalesce_submits.WAYS:
        table.add_row(way, *(f"{median(submits[mode][way]):.0f}" for mode in coalesce_submits.MODES))
    result.tables.append(table)


def _tell_bursts(result: Result, bursts: dict[str, list[Burst]]) -> None:
    plain_s = [burst.waited_s for burst in bursts[STOCK] if burst.waited_s is not None]
    table = Table(title="a burst of submits of one key", title_justify="left", header_style="bold")
    for column in ("way", "executions", "submitted s", "last waiter has its result after s"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for way, seen in bursts.items():
        waited_s = [burst.waited_s for burst in seen if burst.waited_s is not None]
        if way != STOCK and waited_s:
            result.ratios[_name("burst_vs_plain", way)] = Ratio.of(plain_s, waited_s)
        figures = {
            "executions": round(median(burst.runs for burst in seen), 1),
            "submitted_s": round(median(burst.submitted_s for burst in seen), 4),
            "last_waiter_s": round(median(waited_s), 4) if waited_s else None,
        }
        result.figures.setdefault("burst", {})[way] = figures
        last = figures["last_waiter_s"]
        table.add_row(
            way,
            f"{figures['executions']:g}",
            f"{figures['submitted_s']:.2f}",
            f"{last:.2f}" if last is not None else "no waiter",
        )
    result.tables.append(table)


def _table_of_behaviour(behaviour: dict[str, Behaviour], patience_s: float) -> Table:
    title = f"what became of it, seen in this run (patience {patience_s:g} s)"
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("question")
    for way in behaviour:
        table.add_column(way.replace("celery_", "celery-\n").replace("_", "\n"), min_width=9)
    columns = [_cells(found) for found in behaviour.values()]
    for question in {question: None for cells in columns for question in cells}:
        table.add_row(question, *(cells.get(question, "[red]broken[/]") for cells in columns))
    for way, found in behaviour.items():
        if found.broken:
            table.caption = "\n".join(filter(None, (str(table.caption or ""), f"{way}: {found.broken}")))
    return table


def _cells(found: Behaviour) -> dict[str, str]:
    """Answers by question, the good ones green."""
    if found.broken:
        return {}
    again_s = found.killed_begins_again_s
    cells = {
        "loses an update": _yes_or_no(answer=found.loses_update is True, good=False),
        "a duplicate's waiter gets": _coloured(found.waiter_gets, good=found.waiter_gets == "own"),
        "runs two of a key at once": _yes_or_no(answer=found.runs_two_at_once is True, good=False),
    }
    for ended, served_s in found.duplicate_served_s.items():
        free_s = found.later_runs_s[ended]
        cells[f"leader {ended}: duplicate served"] = _yes_or_no(answer=served_s is not None, good=True)
        cells[f"leader {ended}: key free again"] = _yes_or_no(answer=free_s is not None, good=True)
    again = "no" if again_s is None else f"in {again_s:.1f} s"
    return {**cells, "leader killed: runs again by itself": _coloured(again, good=again_s is not None)}


def _yes_or_no(*, answer: bool, good: bool) -> str:
    return _coloured("yes" if answer else "no", good=answer is good)


def _coloured(text: str, *, good: bool) -> str:
    return f"[{'green' if good else 'red'}]{text}[/]"


def _name(figure: str, way: str) -> str:
    return figure if way == STOKER else f"{figure}_{way}"
