"""How long messages wait under an overload, beside a flood, and when all queues are busy: our transport beside kombu's own."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from bench import fairness_drawing
from bench.fairness_app import PRIORITY, ROUND_ROBIN, SERVICE_S, SLOTS, STOKER, WAYS
from bench.fairness_play import SLACK_S, Played, Servers
from bench.fairness_work import (
    BELOW,
    FLOOD,
    INTERACTIVE,
    INTERACTIVE_LOAD,
    OVERLOAD,
    SITUATIONS,
    TRICKLE_PER_S,
    ZIPF_LOAD,
    Amounts,
    situation,
)
from bench.figures import Ratio
from bench.ground import broker, broker_version, settings_of
from bench.result import FOLDER, Aim, Result
from tasks.cli import simulation_views

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.progress import Progress

    Round = Mapping[str, Sequence[Played]]  # by way, each in the order of the classes

AIMS: Final = [Aim("trickle_max_wait_over_bound_s", at_most=0.5), Aim("interactive_p99_vs_strict", at_most=1.3)]
THREADS: Final = "threads"
PREFORK: Final = "prefork"
_DRAWING: Final = "fairness.svg"
_P99: Final = 0.99


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int
    probe: int  # messages by which it is found what can be served
    prefork: bool  # the overload again, by processes
    amounts: Amounts


FULL: Final = Scale(
    rounds=3,
    probe=150,
    prefork=True,
    amounts=Amounts(overload_s=11.0, overload=1.2, flood_s=8.0, flood=20_000, zipf_s=5.0, bound_s=3.0),
)
# So much above what can be served that the trickle waits from its first message on.
QUICK: Final = Scale(
    rounds=1,
    probe=20,
    prefork=False,
    amounts=Amounts(overload_s=1.1, overload=2.0, flood_s=0.5, flood=500, zipf_s=0.4, bound_s=0.3),
)


def run(progress: Progress, *, quick: bool) -> Result:
    """Every situation by every way in each round, on the same arrivals."""
    scale = QUICK if quick else FULL
    told = {
        "scale": asdict(scale),
        "service_s": SERVICE_S,
        "slots": SLOTS,
        "slack_s": SLACK_S,
        "loads": {"trickle_per_s": TRICKLE_PER_S, "interactive": INTERACTIVE_LOAD, "zipf": ZIPF_LOAD},
    }
    result = Result(settings=told, aims=AIMS)
    rounds: dict[str, list[Round]] = {name: [] for name in SITUATIONS}
    with settings_of("") as settings, broker(settings):
        result.engines = broker_version(settings)
        where = (settings.broker_url, settings.locations.logs)
        progress.say("workers start")
        with Servers(THREADS, *where) as servers:
            capacity = _probe(servers, scale, progress)
            for number in range(1, scale.rounds + 1):
                for name, played in rounds.items():
                    played.append(_play(servers, name, scale, capacity, number, progress))
        trickles = {THREADS: rounds[OVERLOAD]}
        if scale.prefork:
            progress.say("workers of processes start")
            with Servers(PREFORK, *where) as servers:
                capacity[PREFORK] = min(_probe(servers, scale, progress).values())
                trickles[PREFORK] = [_play(servers, OVERLOAD, scale, capacity, 1, progress)]
    _tell(result, rounds, trickles, capacity, scale)
    return result


def _probe(servers: Servers, scale: Scale, progress: Progress) -> dict[str, float]:
    """What each way can serve in a second."""
    found = {}
    for way, server in servers.of.items():
        progress.say(f"what {way} can serve")
        found[way] = round(server.capacity_per_s(scale.probe), 1)
    return found


def _play(
    servers: Servers, name: str, scale: Scale, capacity: Mapping[str, float], number: int, progress: Progress
) -> Round:
    # One rate for all: by the fastest, so that an overload is one for each of them; and else by the slowest.
    rates = [capacity[way] for way in WAYS]
    work = situation(name, scale.amounts, max(rates) if name == OVERLOAD else min(rates), number)
    played = {}
    for turn in range(len(WAYS)):
        way = WAYS[(turn + number) % len(WAYS)]
        progress.say(f"round {number} of {scale.rounds}: {name}, {way}")
        played[way] = servers.of[way].play(work)
    return {way: played[way] for way in WAYS}


def _tell(
    result: Result,
    rounds: Mapping[str, Sequence[Round]],
    trickles: Mapping[str, Sequence[Round]],
    capacity: Mapping[str, float],
    scale: Scale,
) -> None:
    over_s = [_of(played[STOKER], BELOW) for played in rounds[OVERLOAD]]
    result.ratios["trickle_max_wait_over_bound_s"] = Ratio.over(
        outcome.waits_s[-1] - outcome.kind.bound_s for outcome in over_s
    )
    p99_s = {way: [_p99_s(_of(played[way], INTERACTIVE)) for played in rounds[FLOOD]] for way in WAYS}
    result.ratios["interactive_p99_vs_strict"] = Ratio.of(p99_s[STOKER], p99_s[PRIORITY])
    result.ratios["interactive_p99_vs_strict_round_robin"] = Ratio.of(p99_s[ROUND_ROBIN], p99_s[PRIORITY])
    pooled = {name: _pooled(played) for name, played in rounds.items()}
    whats = {name: situation(name, scale.amounts, min(capacity.values()), 1).what for name in SITUATIONS}
    how = f"{scale.rounds} rounds, {SLOTS} threads x {1000 * SERVICE_S:g} ms; late: bound + {SLACK_S:g} s"
    result.figures["capacity_per_s"] = dict(capacity)
    result.figures["waits"] = {name: _figures(outcomes) for name, outcomes in pooled.items()}
    result.figures["rounds"] = {name: [_figures(played) for played in of_name] for name, of_name in rounds.items()}
    for name, outcomes in pooled.items():
        shown = Table.grid(expand=True)
        shown.add_row(simulation_views.table(f"{name}: {whats[name]}", how, outcomes))
        shown.add_row(simulation_views.bars(outcomes))
        result.tables.append(shown)
    _tell_trickles(result, trickles)
    FOLDER.mkdir(parents=True, exist_ok=True)
    told = fairness_drawing.drawing({f"{name}: {whats[name]}": outcomes for name, outcomes in pooled.items()}, how)
    (FOLDER / _DRAWING).write_text(told, encoding="utf-8")


def _tell_trickles(result: Result, trickles: Mapping[str, Sequence[Round]]) -> None:
    """What becomes of the queue below an overload: it is what the reserve is for."""
    table = Table(title=f"{BELOW} below the overload", title_justify="left", header_style="bold")
    for column in ("worker", "way", "came", "served", "in time", "late so far", "longest wait s"):
        table.add_column(column, justify="left" if column in {"worker", "way"} else "right")
    told = result.figures["trickle"] = {}
    for pool, rounds in trickles.items():
        for way, outcomes in _pooled(rounds).items():
            outcome = _of(outcomes, BELOW)
            late = round(outcome.count * outcome.violations)
            told.setdefault(pool, {})[way] = {
                "came": outcome.count,
                "served": outcome.served,
                "in_time": outcome.in_time,
                "late": late,
                "max_wait_s": round(outcome.waits_s[-1], 4),
                "reserved": outcome.reserved,
            }
            table.add_row(
                pool,
                way,
                str(outcome.count),
                str(outcome.served),
                str(outcome.in_time),
                f"[{'red' if late else 'green'}]{late}[/]",
                f"{outcome.waits_s[-1]:.2f}",
            )
    result.tables.append(table)


def _pooled(rounds: Sequence[Round]) -> Round:
    """The messages of all rounds as if of one."""
    return {
        way: [Played.together(of_kind) for of_kind in zip(*(one[way] for one in rounds), strict=True)] for way in WAYS
    }


def _of(outcomes: Sequence[Played], kind: str) -> Played:
    return next(outcome for outcome in outcomes if outcome.kind.name == kind)


def _p99_s(outcome: Played) -> float:
    wait_s = outcome.wait_s(_P99)
    assert wait_s is not None, "nothing came"
    return wait_s


def _figures(outcomes: Round) -> dict[str, dict[str, Any]]:
    """By way and queue; without the queues to which nothing came."""
    return {
        of_way["policy"]: {row.pop("queue"): row for row in of_way["queues"] if row["count"]}
        for of_way in simulation_views.data(outcomes)
    }
