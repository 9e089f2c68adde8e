"""The queue transport beside kombu's own: tasks a second, what an idle worker costs, and who loses messages by kill -9."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from bench import dispatch_idle, dispatch_kills, dispatch_rates
from bench.dispatch_app import STOCK, STOKER, WAYS
from bench.dispatch_kills import Fate, Load
from bench.dispatch_rates import EARLY, FIVE, PLAIN, SLOTS
from bench.dispatch_workers import Ground
from bench.figures import Ratio, percentile
from bench.ground import broker, broker_version, settings_of
from bench.result import Aim, Result

if TYPE_CHECKING:
    from bench.dispatch_idle import Asking, FanOut, Publishing
    from bench.dispatch_rates import Rates
    from bench.progress import Progress

AIMS: Final = [
    Aim("tasks_vs_stock", at_least=1.2),
    Aim("tasks_vs_stock_threads", at_least=2.0),
    Aim("idle_commands_per_s", at_most=2.0),
    Aim("killed_messages_lost", at_most=0.0),
]
# Of the order of the kills, which worker it is, and the pauses before them; how far a worker has come then, nobody knows.
SEED: Final = 8206
# The pools of Celery that are measured if they are there: none of them is among this project's dependencies.
_LEFT_OUT: Final = "gevent, eventlet: not installed with Stoker"


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int
    rounds_early: int  # with early acknowledgement, and four times the prefetch
    tasks: int  # of a backlog
    idle_queues: tuple[int, ...]
    # The first second's commands are the start's: kombu then looks for expired bindings, and from there on once a minute.
    idle_settled_s: float
    idle_s: float
    latency_rounds: int
    latencies: int
    publish_rounds: int
    publishes: int
    fan_out_rounds: int
    fan_out: int
    load: Load  # of those that are killed


FULL: Final = Scale(
    rounds=7,
    rounds_early=3,
    tasks=1_000,
    idle_queues=(1, 5, 25),
    idle_settled_s=1.5,
    idle_s=4.5,
    latency_rounds=6,
    latencies=50,
    publish_rounds=7,
    publishes=600,
    fan_out_rounds=3,
    fan_out=1_000,
    load=Load(kills=200, kills_stock=100, workers=2, queued=300, restores_after_s=4.0),
)
QUICK: Final = Scale(
    rounds=1,
    rounds_early=0,
    tasks=1_000,
    idle_queues=(1,),
    idle_settled_s=0.1,
    idle_s=0.5,
    latency_rounds=1,
    latencies=10,
    publish_rounds=1,
    publishes=100,
    fan_out_rounds=1,
    fan_out=100,
    load=Load(kills=4, kills_stock=4, workers=1, queued=30, restores_after_s=0.5),
)


def run(progress: Progress, *, quick: bool) -> Result:
    """Both transports on one Redis, in turn; then kills, of one and of the other."""
    scale = QUICK if quick else FULL
    told = {"scale": asdict(scale), "slots": dict(SLOTS), "seed": SEED, "pools_left_out": _LEFT_OUT}
    result = Result(settings=told, aims=AIMS)
    with settings_of("") as settings, broker(settings), Ground(settings.broker_url, settings.locations.logs) as ground:
        result.engines = broker_version(settings)
        situations = dict.fromkeys(PLAIN, scale.rounds)
        if not quick:
            situations |= dict.fromkeys(FIVE, scale.rounds) | dict.fromkeys(EARLY, scale.rounds_early)
        _tell_rates(result, dispatch_rates.measure(ground, situations, scale.tasks, progress))
        _tell_idle(result, dispatch_idle.ask(ground, scale.idle_queues, scale.idle_settled_s, scale.idle_s, progress))
        _tell_latencies(result, dispatch_idle.latencies(ground, scale.latency_rounds, scale.latencies, progress))
        _tell_publishes(result, dispatch_idle.publish(ground, scale.publish_rounds, scale.publishes, progress))
        _tell_fan_outs(result, dispatch_idle.fan_outs(ground, scale.fan_out_rounds, scale.fan_out, progress))
        _tell_kills(result, dispatch_kills.measure(ground, scale.load, SEED, progress))
    return result


def _tell_rates(result: Result, rates: Rates) -> None:
    table = _table("tasks a second (median round)", "a warm worker with a backlog", *WAYS, "ratio")
    figures: dict[str, Any] = {}
    for name, seen in rates.items():
        ratio = Ratio.of(seen[STOKER], seen[STOCK])
        result.ratios["tasks_vs_stock" + f"_{name}".removeprefix("_prefork")] = ratio
        figures[name] = {way: round(median(seen[way]), 1) for way in WAYS}
        table.add_row(name, *(f"{median(seen[way]):,.0f}" for way in WAYS), str(ratio))
    result.figures["tasks_per_s"] = figures
    result.tables.append(table)


def _tell_idle(result: Result, found: dict[int, dict[str, Asking]]) -> None:
    result.aimed_ms["idle_commands_per_s"] = max(asked[STOKER].by_total for asked in found.values())
    table = _table("commands a second of an idle worker", "queues", *WAYS, "of them, stoker", "of them, stock")
    for number, asked in found.items():
        told = [
            ", ".join(f"{name} {each:.2f}" for name, each in asked[way].by_command.items()) for way in (STOKER, STOCK)
        ]
        table.add_row(str(number), *(f"{asked[way].by_total:.2f}" for way in WAYS), *told)
    result.figures["idle_commands_per_s"] = {
        str(number): {
            way: {
                "all": round(asked[way].by_total, 3),
                "by_command": {name: round(each, 3) for name, each in asked[way].by_command.items()},
            }
            for way in WAYS
        }
        for number, asked in found.items()
    }
    result.tables.append(table)


def _tell_latencies(result: Result, found: dict[str, dict[str, list[list[float]]]]) -> None:
    columns = [f"{way} {share}" for way in WAYS for share in ("p50", "p99")]
    table = _table("ms from publish to start, on an idle worker", "pool", *columns)
    figures: dict[str, Any] = {}
    for pool, ways in found.items():
        ratio = Ratio.of(*([percentile(round_ms, 0.5) for round_ms in ways[way]] for way in (STOKER, STOCK)))
        result.ratios["latency_vs_stock" + f"_{pool}".removeprefix("_prefork")] = ratio
        figures[pool] = {}
        for way in WAYS:
            every = [ms for round_ms in ways[way] for ms in round_ms]
            figures[pool][way] = {"p50": round(percentile(every, 0.5), 3), "p99": round(percentile(every, 0.99), 3)}
        table.add_row(pool, *(f"{ms:.2f}" for way in WAYS for ms in figures[pool][way].values()))
    result.figures["publish_to_start_ms"] = figures
    result.tables.append(table)


def _tell_publishes(result: Result, found: dict[str, Publishing]) -> None:
    table = _table("messages published a second (median round)", "how", *WAYS, "ratio")
    figures: dict[str, Any] = {}
    for how, name in (("singly", "publish_vs_stock"), ("batch", "publish_vs_stock_batch")):
        rates = {way: getattr(found[way], how) for way in WAYS}
        result.ratios[name] = Ratio.of(rates[STOKER], rates[STOCK])
        figures[how] = {way: round(median(rates[way]), 1) for way in WAYS}
        table.add_row(how, *(f"{median(rates[way]):,.0f}" for way in WAYS), str(result.ratios[name]))
    result.figures["publishes_per_s"] = figures
    result.tables.append(table)


def _tell_fan_outs(result: Result, found: dict[str, FanOut]) -> None:
    result.ratios["fan_out_vs_stock"] = Ratio.of(found[STOKER].begun_ms, found[STOCK].begun_ms)
    result.figures["fan_out_ms"] = {
        way: {name: round(median(each), 1) for name, each in asdict(found[way]).items()} for way in WAYS
    }
    table = _table("launches published in one go, to two prefork slots (median round)", "ms until", *WAYS)
    for label, name in (("all are published", "published_ms"), ("the last has begun", "begun_ms")):
        table.add_row(label, *(f"{median(getattr(found[way], name)):,.0f}" for way in WAYS))
    result.tables.append(table)


def _tell_kills(result: Result, found: dict[str, dict[str, Fate]]) -> None:
    together = {way: Fate.of_all(fates.values()) for way, fates in found.items()}
    result.aimed_ms["killed_messages_lost"] = float(together[STOKER].lost)
    result.findings["kill"] = {
        "seed": SEED,
        **asdict(together[STOKER]),
        **{f"stock_{name}": count for name, count in asdict(together[STOCK]).items()},
        "by": {way: {kind: asdict(fate) for kind, fate in fates.items()} for way, fates in found.items()},
    }
    names = list(asdict(together[STOKER]))
    table = _table(
        f"workers killed by SIGKILL under load, seed {SEED}", "messages of", *(n.replace("_", " ") for n in names)
    )
    for way in WAYS:
        for kind, fate in (*found[way].items(), ("all", together[way])):
            table.add_row(f"{way}, {kind}", *(_coloured(name, count) for name, count in asdict(fate).items()))
        table.add_section()
    result.tables.append(table)


def _coloured(name: str, count: int) -> str:
    if name not in {"lost", "left"}:
        return f"{count:,}"
    return f"[{'red' if count else 'green'}]{count:,}[/]"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    return table
