"""Beat: how soon an edit is in force, how soon another takes over, and whether anything comes twice; beside RedBeat."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from bench.figures import Ratio
from bench.ground import engines, settings_of, versions
from bench.result import Aim, Result
from scheduler.redis.connection import connect
from scheduler.store.beat import LEASE_S

if TYPE_CHECKING:
    from bench.progress import Progress
    from bench.schedule_beats import Pair

AIMS: Final = [
    Aim("edit_to_effect_max_ms", at_most=1_000.0),
    Aim("take_over_max_ms", at_most=LEASE_S * 1_000),
]
MEASURED: Final = {
    "edit_to_effect_s": "an edit is in force",
    "take_over_s": "another sends, after kill -9",
    "stand_still_s": "after SIGSTOP",
}


@dataclass(frozen=True)
class Scale:
    """How often each is measured, of both in turn."""

    edits: int
    kills: int
    stops: int


FULL: Final = Scale(edits=20, kills=10, stops=3)
QUICK: Final = Scale(edits=1, kills=1, stops=0)


def run(progress: Progress, *, quick: bool) -> Result:
    """Two beats of each on the same engines, an entry each of five times a second."""
    scale = QUICK if quick else FULL
    from bench import schedule_redbeat  # noqa: PLC0415

    settings_told = {
        "scale": asdict(scale),
        "redbeat": {"lock_s": schedule_redbeat.LOCK_S, "loop_s": schedule_redbeat.LOOP_S},
    }
    result = Result(settings=settings_told, aims=AIMS)
    with ExitStack() as open_:
        settings = open_.enter_context(settings_of(""))
        open_.enter_context(engines(settings))
        # The app reads the settings when it is imported, so not before they are this bench's.
        from bench.schedule_beats import RedBeat, Stoker  # noqa: PLC0415
        from tasks import app  # noqa: PLC0415
        from tasks.context import Context  # noqa: PLC0415

        context = Context(settings, app)
        open_.callback(context.close)
        context.prepare()
        result.engines = versions(settings)
        stoker = Stoker(settings, settings.locations.logs, db=context.db)
        redbeat = RedBeat(settings, settings.locations.logs)
        pairs: tuple[Pair, ...] = (stoker, redbeat)
        for pair in pairs:
            open_.callback(pair.close)
        progress.say("four beats start")
        _all(pairs, "start")
        taken = _measure(pairs, scale, progress)
        lost = stoker.lost()
        progress.say("Redis is flushed")
        _all(pairs, "sends")
        with closing(connect(settings.redis_client_url)) as client:
            client.flushdb()
        outlives = _all(pairs, "still_sends")
        doubled = {pair.name: pair.doubled() for pair in pairs}
    _tell(result, taken, doubled, lost, outlives)
    return result


def _all(pairs: tuple[Pair, ...], method: str) -> dict[str, Any]:
    """What each says, asked at the same time."""
    with ThreadPoolExecutor(len(pairs)) as threads:
        said = {pair.name: threads.submit(getattr(pair, method)) for pair in pairs}
    return {name: answer.result() for name, answer in said.items()}


def _measure(pairs: tuple[Pair, ...], scale: Scale, progress: Progress) -> dict[str, dict[str, list[float]]]:
    """Figure -> who -> seconds. In turn, so that a busy machine is as busy for both."""
    taken: dict[str, dict[str, list[float]]] = {figure: {pair.name: [] for pair in pairs} for figure in MEASURED}
    for figure, rounds in zip(MEASURED, (scale.edits, scale.kills, scale.stops), strict=True):
        for number in range(rounds):
            progress.say(f"{MEASURED[figure]}, {number + 1} of {rounds}")
            for pair in pairs:
                # At any moment of their loops.
                time.sleep(random.uniform(0.0, 1.0))
                act = {"edit_to_effect_s": pair.edit_s, "take_over_s": pair.kill_s, "stand_still_s": pair.stop_s}
                taken[figure][pair.name].append(act[figure]())
    return {figure: by for figure, by in taken.items() if all(by.values())}


def _tell(
    result: Result,
    taken: dict[str, dict[str, list[float]]],
    doubled: dict[str, int],
    lost: int,
    outlives: dict[str, bool],
) -> None:
    def figures(name: str) -> dict[str, Any]:
        seen: dict[str, Any] = {figure: round(median(by[name]), 3) for figure, by in taken.items()}
        seen |= {figure.removesuffix("s") + "max_s": round(max(by[name]), 3) for figure, by in taken.items()}
        return {**seen, "duplicate_ticks": doubled[name], "sends_after_flush": outlives[name]}

    result.figures = {"lease_s": LEASE_S, **figures("stoker"), "lost_ticks": lost, "redbeat": figures("redbeat")}
    for figure, by in taken.items():
        result.ratios[figure.removesuffix("_s") + "_vs_redbeat"] = Ratio.of(by["stoker"], by["redbeat"])
    result.aimed_ms = {
        "edit_to_effect_max_ms": 1000 * result.figures["edit_to_effect_max_s"],
        "take_over_max_ms": 1000 * result.figures["take_over_max_s"],
    }
    table = Table(title="beat: median and longest", title_justify="left", header_style="bold")
    for column in ("seconds until", *doubled):
        table.add_column(column, justify="left" if column == "seconds until" else "right")
    for figure, by in taken.items():
        table.add_row(MEASURED[figure], *(f"{median(by[name]):.2f}, {max(by[name]):.2f}" for name in doubled))
    table.add_row("messages that came twice", *map(str, doubled.values()))
    table.add_row("sends on after a flush of Redis", *("yes" if outlives[name] else "no" for name in doubled))
    result.tables.append(table)
