"""The three pictures of the report: the pool over time, how long claims took, and where they landed. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from demo.measures import percentile, steps
from demo.record import STATES
from demo.report_svg import Linear, Log, drawing, element, line, path, text, title
from demo.words import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo.record import Recording
    from demo.report_svg import Point

STATE_NAMES: Final = {
    "idle": "idle, anybody's",
    "spawning": "spawning",
    "activating": "being bound",
    "active": "active",
    "hot_idle": "hot idle, its tenant's own",
    "stopping": "stopping",
}
ORIGIN_NAMES: Final = {
    "warm": "from the floor",
    "hot_idle": "its own again",
    "waited": "waited for a new one",
    "reaped": "reaped at the end",
}
_MARGIN_S: Final = 2.0  # of the time before the burst that is shown
_NARROW_PHASE: Final = 70.0
_DROP_LABEL: Final = 14.0
_WHOLE_S: Final = 10.0  # from here on tenths of a second say nothing


def pool_over_time(run: Recording, slots_s: float | None) -> str:
    """Workers by state as stacked areas, from just before the burst to the end; floor, burst and phases marked."""
    width, height, left, right, top, bottom = 1080, 400, 44, 16, 46, 34
    shown = [sample for sample in run.samples if sample.at_s >= run.burst_s - _MARGIN_S]
    if not shown:
        return drawing(width, height, [text(left, height / 2, "no samples")], "no samples")
    most = max(max(sample.live, sample.waiting) for sample in shown)
    x = Linear(-_MARGIN_S, shown[-1].at_s - run.burst_s, left, width - right)
    y = Linear(0, most * 1.08 + 1, height - bottom, top)
    parts = [*_grid_y(y, left, width - right), *_phases(run, x, shown[-1].at_s, (top, height - bottom))]
    below = [0] * len(shown)
    for state in STATES:
        above = [base + sample.workers[state] for base, sample in zip(below, shown, strict=True)]
        places = [x(sample.at_s - run.burst_s) for sample in shown]
        upper = list(zip(places, map(y, above), strict=True))
        lower = list(zip(places, map(y, below), strict=True))
        parts.append(path([*upper, *reversed(lower)], f"area {state}", closed=True, told=STATE_NAMES[state]))
        below = above
    waiting = [(x(sample.at_s - run.burst_s), y(sample.waiting)) for sample in shown]
    parts += [path(waiting, "halo"), path(waiting, "waiting", told="claims that wait")]
    parts.append(line((left, y(run.floor)), (width - right, y(run.floor)), "floor"))
    parts.append(text(width - right - 4, y(run.floor) - 5, f"floor {run.floor}", "mark", "end"))
    parts.append(line((x(0), top - 4), (x(0), height - bottom), "burst"))
    slots = "" if slots_s is None else f": {run.tenants + run.floor} slots after {slots_s:.2f} s"
    parts.append(text(x(0) + 6, top + _DROP_LABEL, f"{run.tenants} tenants ask{slots}", "mark"))
    parts += [
        text(x(tick), height - 12, f"{tick:g} s", "tick", "middle")
        for tick in x.ticks(10)
        if x(tick) < width - right - 8
    ]
    return drawing(width, height, parts, "Workers of the pool by state over time")


@dataclass(frozen=True, slots=True)
class Curve:
    """One distribution of the latency chart."""

    name: str
    class_: str
    values_ms: Sequence[float]


def latency(curves: Sequence[Curve], axis: str = "time from asking to holding") -> str:
    """The share of what was done within a time, on a logarithmic axis, a curve for each kind."""
    width, height, left, right, top, bottom = 530, 330, 44, 18, 16, 44
    curves = [curve for curve in curves if curve.values_ms]
    x = Log.around([value for curve in curves for value in curve.values_ms], left, width - right)
    y = Linear(0, 1, height - bottom, top)
    parts = [line((left, y(share)), (width - right, y(share)), "grid") for share in (0, 0.25, 0.5, 0.75, 1)]
    parts += [text(left - 8, y(share) + 4, f"{share:.0%}", "tick", "end") for share in (0, 0.5, 1)]
    for tick in x.ticks():
        parts.append(line((x(tick), top), (x(tick), height - bottom), "grid"))
        parts.append(text(x(tick), height - bottom + 18, _round(tick), "tick", "middle"))
    for place, curve in enumerate(curves):
        parts.append(path(_stairs(curve.values_ms, x, y, width - right), f"curve {curve.class_}", told=curve.name))
        median = percentile(curve.values_ms, 0.5) or 0.0
        parts.append(
            element(
                "circle",
                title(f"half within {duration(median)}"),
                cx=x(median),
                cy=y(0.5),
                r=4.5,
                class_=f"dot {curve.class_}",
            )
        )
        # The leftmost to its left, the others by turns above and below: medians may lie close together.
        aside, anchor = (-9, "end") if place == 0 else (9, "start")
        parts.append(text(x(median) + aside, y(0.5) + (18 if place % 2 else -10), duration(median), "mark", anchor))
    parts.append(text(width - right, height - 6, f"{axis}, logarithmic", "tick", "end"))
    return drawing(width, height, parts, f"Share done within a time: {axis}")


def landings(run: Recording) -> str:
    """Claims by the age of the node they landed on, by origin, oldest node first; and workers reaped there."""
    width, height, left, right, top, bottom = 530, 330, 34, 14, 16, 58
    nodes = _nodes(run)
    claims = Counter((claim.node, claim.origin) for claim in run.history.claims)
    reaped = Counter(worker.node for worker in run.history.workers if worker.cause == "idle_timeout")
    kinds = ("warm", "hot_idle", "waited")
    most = max((sum(claims[node, kind] for kind in kinds) for node, _ in nodes), default=1)
    y = Linear(0, max(most, *reaped.values(), 1) * 1.1, height - bottom, top)
    parts = _grid_y(y, left, width - right)
    slot = (width - right - left) / max(1, len(nodes))
    for place, (node, first_seen) in enumerate(nodes):
        begin = left + place * slot
        base = 0
        for kind in kinds:
            count = claims[node, kind]
            if count:
                parts.append(
                    _bar(
                        begin + slot * 0.1,
                        slot * 0.5,
                        y,
                        base,
                        count,
                        f"bar {kind}",
                        f"{node}: {count} {ORIGIN_NAMES[kind]}",
                    )
                )
            base += count
        if reaped[node]:
            parts.append(
                _bar(
                    begin + slot * 0.64, slot * 0.24, y, 0, reaped[node], "bar reaped", f"{node}: {reaped[node]} reaped"
                )
            )
        parts.append(text(begin + slot / 2, height - bottom + 16, f"{place + 1}", "mark", "middle"))
        parts.append(text(begin + slot / 2, height - bottom + 31, _since(first_seen - run.burst_at), "tick", "middle"))
    parts.append(
        text(
            width - right,
            height - 6,
            "nodes, oldest first; first seen so long before or after the burst",
            "tick",
            "end",
        )
    )
    return drawing(width, height, parts, "Claims by the age of their node")


def _nodes(run: Recording) -> list[tuple[str, float]]:
    """Nodes that had a ready worker, by when each was first seen."""
    seen = {
        worker.node: worker.node_first_seen
        for worker in run.history.workers
        if worker.node is not None and worker.node_first_seen is not None
    }
    return sorted(seen.items(), key=lambda node: (node[1], node[0]))


def _bar(x: float, width: float, y: Linear, base: float, count: float, class_: str, told: str) -> str:  # noqa: PLR0917 - a rectangle's
    return element(
        "rect", title(told), x=x, y=y(base + count), width=width, height=y(base) - y(base + count), class_=class_
    )


def _phases(run: Recording, x: Linear, end_s: float, span: tuple[float, float]) -> list[str]:
    """The run's parts along the top, each from its begin to the next; a name that does not fit is left out."""
    top, bottom = span
    edges = [*((phase.name, phase.at_s) for phase in run.phases), ("", end_s)]
    parts = []
    for (name, at_s), (_, until_s) in pairwise(edges):
        begin, end = (x(max(-_MARGIN_S, second - run.burst_s)) for second in (at_s, until_s))
        if end <= begin:
            continue
        if at_s > run.burst_s:
            parts.append(line((begin, top - 26), (begin, bottom), "phase"))
        if end - begin > _NARROW_PHASE:
            parts.append(text(begin + 6, top - 16, name, "tick"))
    return parts


def _grid_y(y: Linear, left: float, right: float) -> list[str]:
    ticks = [tick for tick in y.ticks(6) if tick == round(tick)]
    lines = [line((left, y(tick)), (right, y(tick)), "grid") for tick in ticks]
    return [*lines, *(text(left - 8, y(tick) + 4, f"{tick:g}", "tick", "end") for tick in ticks)]


def _stairs(values: Sequence[float], x: Log, y: Linear, end: float) -> list[Point]:
    """The distribution as a line that rises at each value."""
    points: list[Point] = []
    share = 0.0
    for value, upto in steps(values):
        points += [(x(value), y(share)), (x(value), y(upto))]
        share = upto
    return [*points, (end, y(share))]


def _since(seconds: float) -> str:
    return f"{seconds:+.1f} s" if abs(seconds) < _WHOLE_S else f"{seconds:+.0f} s"


def _round(power_of_ten_ms: float) -> str:
    return f"{power_of_ten_ms / 1000:g} s" if power_of_ten_ms >= 1000 else f"{power_of_ten_ms:g} ms"  # noqa: PLR2004 - ms in a second
