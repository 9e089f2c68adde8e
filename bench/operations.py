"""Operations on a deployment: how soon their waiters wake, what they cost in SQL, and how many there are in a second."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from bench.deployment import deployed
from bench.figures import Ratio, percentile
from bench.ground import settings_of, versions
from bench.operations_cost import Cost, TappedWorker, count_costs
from bench.operations_crowd import Crowd, Load
from bench.operations_wake import WAITERS, Wakes
from bench.result import Aim, Result
from bench.tap import tapped
from tasks.services import services

if TYPE_CHECKING:
    from bench.progress import Progress
    from config.settings import Settings
    from tasks.services import Service

AIMS: Final = [Aim(f"wake_p50_ms_{waiters}_waiting", at_most=5.0) for waiters in WAITERS]
USER: Final = "user"
TAPPED: Final = "tapped"
TAPPED_NODE: Final = "node2"
# The ticks look after operations, and take no part in them: to find out whether the bench works takes none.
TICKS: Final = ("control", "beat")

# The steps of node2 are run by a worker of its own, whose statements are counted; all else is timed and not counted.
_SETTINGS: Final = """
[network]
driver = "dry_run"

[network.nodes.node1]
address = "127.0.0.1"

[network.nodes.node2]
address = "127.0.0.2"
"""


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    wakes: int  # rounds for each number of waiters
    counts: int  # how often each kind of operation is counted
    networks: int
    load_rounds: int
    load: Load


FULL: Final = Scale(wakes=60, counts=5, networks=50, load_rounds=5, load=Load(threads=8, submits=800))
QUICK: Final = Scale(wakes=3, counts=1, networks=4, load_rounds=1, load=Load(threads=8, submits=32))


def run(progress: Progress, *, quick: bool) -> Result:
    """Bring up a stack; count, wake, and load it."""
    scale = QUICK if quick else FULL
    ran = (USER, TAPPED) if quick else (USER, TAPPED, *TICKS)
    result = Result(settings={"scale": asdict(scale), "driver": "dry_run", "services": ran}, aims=AIMS)
    with ExitStack() as open_:
        settings = open_.enter_context(settings_of(_SETTINGS))
        # The app reads the settings when it is imported, so not before they are this bench's.
        from tasks import app  # noqa: PLC0415

        progress.say("the stack comes up")
        tap = open_.enter_context(tapped(settings.database_dsn))
        context, stack = open_.enter_context(deployed(settings, app, _services(settings, ran, tap.url), progress))
        open_.callback(context.close)
        result.engines = versions(settings)
        progress.say("statements")
        submitting = open_.enter_context(tapped(settings.database_dsn))
        worker = TappedWorker(stack, TAPPED, TAPPED_NODE, tap)
        _tell_costs(result, count_costs(context, worker, submitting, scale.counts))
        with Wakes(context, stack, USER, "node1") as wakes:
            for number in range(scale.wakes + 1):
                progress.say(f"wake-ups, round {number} of {scale.wakes}")
                wakes.round(keep=number > 0)  # in the first one connections are opened
        _tell_wakes(result, wakes)
        crowd = Crowd(context, scale.networks, "node1")
        for number in range(scale.load_rounds):
            progress.say(f"{scale.load.threads} submit, round {number + 1} of {scale.load_rounds}")
            crowd.round(scale.load)
        _tell_load(result, crowd)
    return result


def _services(settings: Settings, names: tuple[str, ...], tap_url: str) -> list[Service]:
    """Those of a deployment; but the queues of one node have a worker of their own, which reaches SQL through the tap."""
    needed = []
    for service in services(settings):
        if service.name != USER:
            needed += [service] if service.name in names else []
            continue
        queues = service.argv[service.argv.index("-Q") + 1].split(",")
        here = [queue for queue in queues if queue.endswith(f"@{TAPPED_NODE}")]
        others = [queue for queue in queues if queue not in here]
        needed.append(_serving(service, service.name, others))
        own = _serving(service, TAPPED, here)
        needed.append(replace(own, env={**own.env, "STOKER_DATABASE_URL": tap_url}))
    return needed


def _serving(service: Service, name: str, queues: list[str]) -> Service:
    node = f"{name}@%h"
    argv = list(service.argv)
    argv[argv.index("-Q") + 1], argv[argv.index("-n") + 1] = ",".join(queues), node
    return replace(service, name=name, argv=tuple(argv), node=node)


def _tell_wakes(result: Result, wakes: Wakes) -> None:
    for waiters, rounds in wakes.rounds_ms.items():
        everyone = [took for round_ in rounds for took in round_]
        figures = {name: round(percentile(everyone, share), 3) for name, share in (("p50", 0.5), ("p99", 0.99))}
        result.figures.setdefault("wake_ms", {})[str(waiters)] = {**figures, "samples": len(everyone)}
        result.aimed_ms[f"wake_p50_ms_{waiters}_waiting"] = figures["p50"]
        result.ratios[f"wake_vs_notify_{waiters}_waiting"] = Ratio.of(
            [median(round_) for round_ in rounds], wakes.floor_ms[waiters]
        )
    floor = [took for rounds in wakes.floor_ms.values() for took in rounds]
    result.figures["notify_ms"] = {"p50": round(median(floor), 3)}
    table = Table(title="ms from an operation's end until wait() returns", title_justify="left", header_style="bold")
    for column in ("waiting at once", "samples", "p50", "p99"):
        table.add_column(column, justify="right")
    for waiters, line in result.figures["wake_ms"].items():
        table.add_row(waiters, str(line["samples"]), f"{line['p50']:.2f}", f"{line['p99']:.2f}")
    result.tables.append(table)


def _tell_costs(result: Result, costs: list[Cost]) -> None:
    result.figures["sql"] = {cost.name: cost.as_json() for cost in costs}
    table = Table(title="SQL statements (round trips)", title_justify="left", header_style="bold")
    for column in ("operation", "steps", "to submit", "to run", "to run, a step"):
        table.add_column(column, justify="left" if column == "operation" else "right")
    for cost in costs:
        table.add_row(
            cost.name,
            f"{cost.steps:g}",
            f"{cost.submit_statements:g} ({cost.submit_trips:g})",
            f"{cost.run_statements:g} ({cost.run_trips:g})",
            f"{cost.run_statements / cost.steps:.2g}" if cost.steps else "",
        )
    result.tables.append(table)


def _tell_load(result: Result, crowd: Crowd) -> None:
    together, apart = crowd.together, crowd.apart
    result.ratios["completed_vs_apart"] = Ratio.of(
        [one.completed_s for one in apart], [one.completed_s for one in together]
    )
    result.ratios["steps_run_vs_asked"] = Ratio.of(
        [one.steps_run for one in together], [one.steps_asked for one in together]
    )
    table = Table(title="refreshes by a crowd", title_justify="left", header_style="bold")
    columns = ("way", "submitted/s", "completed/s", "operations", "steps asked for", "steps run")
    for column in columns:
        table.add_column(column, justify="left" if column == "way" else "right")
    for way, rounds in (("coalescing", together), ("each by itself", apart)):
        figures: dict[str, Any] = {
            "submitted_per_s": round(median(one.submits / one.submitted_s for one in rounds), 1),
            "completed_per_s": round(median(one.submits / one.completed_s for one in rounds), 1),
            "operations": round(median(one.operations for one in rounds), 1),
            "steps_asked": round(median(one.steps_asked for one in rounds), 1),
            "steps_run": round(median(one.steps_run for one in rounds), 1),
        }
        result.figures.setdefault("crowd", {})[way.replace(" ", "_")] = figures
        table.add_row(way, *(f"{figure:,.0f}" for figure in figures.values()))
    result.tables.append(table)
