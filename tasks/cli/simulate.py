"""`stoker simulate`: what the settings would do to work that has not come yet. It asks no engine and changes nothing."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice, repeat, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from config.names import BACKGROUND_QUEUE, SPAWN_QUEUE, USER_WAITING_QUEUE
from config.settings import load as load_settings
from scheduler.core.queue_simulation import POLICIES, Message, simulate
from scheduler.core.queues import QueueClass
from scheduler.errors import Refused, unknown
from tasks.cli import simulation_views
from tasks.cli.output import JsonFlag, console, print_json

if TYPE_CHECKING:
    from config.settings import Settings

_MOST_MESSAGES: Final = 1_000_000  # some 20 s and 1 GB for all policies
_MOST_SERVERS: Final = 10_000
_LEAST, _MOST = 1e-6, 1e6  # of seconds, milliseconds and load
_FLOOD_S: Final = 60.0  # as long as all servers would be busy with the flood alone
_TRICKLE: Final = 0.05  # of what the servers can do: within each reserve

app = typer.Typer(no_args_is_help=True, help="What the settings would do to work that has not come yet.")


@dataclass(frozen=True, slots=True)
class Setup:
    """How much work comes, and what there is to do it. `load` is a share of what the servers can do."""

    seed: int
    duration_s: float
    servers: int
    service_s: float
    load: float

    @property
    def capacity(self) -> float:
        """Messages a second that the servers can do."""
        return self.servers / self.service_s

    def random(self, queue: str, share: float) -> Iterator[Message]:
        """Messages that come independently of one another: together this share of what the servers can do."""
        dice = random.Random(f"{self.seed}/{queue}")  # noqa: S311 - work, no secret
        at_s = 0.0
        while (at_s := at_s + dice.expovariate(share * self.capacity)) < self.duration_s:
            yield Message(queue, at_s, self.service_s)

    def regular(self, queue: str, share: float) -> Iterator[Message]:
        """The same, evenly spaced."""
        gap_s = 1 / (share * self.capacity)
        times = takewhile(lambda at_s: at_s < self.duration_s, (number * gap_s for number in count(1)))
        return (Message(queue, at_s, self.service_s) for at_s in times)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Work of a kind: in what order it comes, and how much of it there is unless one says."""

    what: str
    load: float
    messages: Callable[[Sequence[QueueClass], Setup], Iterator[Message]]


def _flood(_classes: Sequence[QueueClass], setup: Setup) -> Iterator[Message]:
    flood = repeat(Message(BACKGROUND_QUEUE, 0.0, setup.service_s), round(_FLOOD_S * setup.capacity))
    return chain(flood, setup.random(USER_WAITING_QUEUE, setup.load))


def _overload(_classes: Sequence[QueueClass], setup: Setup) -> Iterator[Message]:
    trickles = (setup.regular(queue, _TRICKLE) for queue in (SPAWN_QUEUE, BACKGROUND_QUEUE))
    return heapq.merge(setup.random(USER_WAITING_QUEUE, setup.load), *trickles, key=lambda message: message.at_s)


def _zipf(classes: Sequence[QueueClass], setup: Setup) -> Iterator[Message]:
    weights = {kind.name: 1 / place for place, kind in enumerate(reversed(classes), 1)}
    whole = sum(weights.values())
    comings = (setup.random(queue, setup.load * weight / whole) for queue, weight in weights.items())
    return heapq.merge(*comings, key=lambda message: message.at_s)


SCENARIOS: Final = {
    "flood": Scenario("a minute's background work at once, beside requests that somebody waits for", 0.5, _flood),
    "overload": Scenario("more requests than can be served, without end, above two trickles", 1.2, _overload),
    "zipf": Scenario("all queues, the least urgent the busiest, second half of it, third a third, ...", 0.95, _zipf),
}


@app.callback()
def _group() -> None:
    """What the settings would do to work that has not come yet."""


@app.command()
def queues(  # noqa: PLR0917 - options of a command
    scenario: Annotated[str, typer.Option(help=" | ".join(SCENARIOS))] = "flood",
    seed: Annotated[int, typer.Option(help="The same seed, the same work.")] = 1,
    duration: Annotated[float, typer.Option(help="Seconds of work.")] = 120.0,
    servers: Annotated[int, typer.Option(help="Messages served at once.")] = 1,
    service_ms: Annotated[float, typer.Option(help="Milliseconds that each takes.")] = 10.0,
    load: Annotated[
        float | None,
        typer.Option(help="What comes, as a share of what can be served; the scenario's own unless given."),
    ] = None,
    svg: Annotated[Path | None, typer.Option(help="Draw how long was waited into this file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """How long each queue waits under the policy of the settings and under four usual ones, for the same work."""
    chosen = SCENARIOS.get(scenario)
    if chosen is None:
        raise unknown("scenario", scenario, tuple(SCENARIOS), "see `stoker simulate queues --help`")
    _check(servers=servers, duration=duration, service_ms=service_ms, load=load)
    setup = Setup(seed, duration, servers, service_ms / 1000, chosen.load if load is None else load)
    classes = classes_of(load_settings())
    messages = list(islice(chosen.messages(classes, setup), _MOST_MESSAGES + 1))
    if len(messages) > _MOST_MESSAGES:
        raise Refused(
            f"{scenario} is too much to simulate",
            expected=f"at most {_MOST_MESSAGES:,} messages",
            got="more",
            remedy="lower --duration, --servers or --load, or raise --service-ms",
        )
    outcomes = {
        name: simulate(classes, messages, policy, servers=servers, until_s=duration)
        for name, policy in POLICIES.items()
    }
    what = f"{scenario}: {chosen.what}"
    how = (
        f"{len(messages):,} messages in {duration:g} s, {servers} x {service_ms:g} ms, load {setup.load:g}, seed {seed}"
    )
    if svg is not None:
        _write(svg, simulation_views.drawing(what, how, outcomes))
    if as_json:
        asked = {
            "scenario": scenario,
            "seed": seed,
            "duration_s": duration,
            "servers": servers,
            "service_ms": service_ms,
            "load": setup.load,
        }
        print_json({**asked, "messages": len(messages), "policies": simulation_views.data(outcomes)})
        return
    console.print(simulation_views.table(what, how, outcomes))
    console.print(simulation_views.bars(outcomes))
    if svg is not None:
        console.print(f"drawn into {svg}", style="dim", highlight=False)


def classes_of(settings: Settings) -> tuple[QueueClass, ...]:
    """The classes of work of the settings, the best first."""
    ranked = ((name, settings.queues[name]) for name in settings.classes)
    return tuple(QueueClass(name, queue.bound_s, queue.reserve) for name, queue in ranked)


def _check(*, servers: int, duration: float, service_ms: float, load: float | None) -> None:
    """Refuse what describes no work, or nobody to do it."""
    if not 1 <= servers <= _MOST_SERVERS:
        raise Refused(
            "--servers out of bounds",
            expected=f"1 to {_MOST_SERVERS}",
            got=str(servers),
            remedy="give as many as tasks may run at once",
        )
    amounts = {
        "--duration": (duration, "seconds", "give how long work comes: --duration 120"),
        "--service-ms": (service_ms, "milliseconds", "give how long a task takes: --service-ms 10"),
        "--load": (1.0 if load is None else load, "of what can be served", "give 0.5 for half of it, 1.2 for too much"),
    }
    for option, (value, unit, remedy) in amounts.items():
        if not _LEAST <= value <= _MOST:
            expected = f"{_LEAST:g} to {_MOST:,.0f} {unit}"
            raise Refused(f"{option} out of bounds", expected=expected, got=f"{value:g}", remedy=remedy)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Refused(
            f"{path} cannot be written",
            expected="a file in a directory that is there",
            got=error.strerror or str(error),
            remedy="name another place: --svg queues.svg",
        ) from error
