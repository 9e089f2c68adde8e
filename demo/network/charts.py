"""The pictures of the network section: what folded, step by step, and the six starts over time. Pure."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from config.names import ENSURE_MESH_STEP, PLUG_STEP, UPDATE_DNSMASQ_STEP
from demo.report_svg import Linear, drawing, element, line, text, title
from demo.words import duration

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from demo.network.record import NetworkRecording, OperationRow

STEP_CLASSES: Final = {UPDATE_DNSMASQ_STEP: "dnsmasq", ENSURE_MESH_STEP: "mesh", PLUG_STEP: "plug"}
STEP_NAMES: Final = {"dnsmasq": "DHCP and DNS", "mesh": "mesh", "plug": "its own interface"}
_ROW: Final = 26
_THIN: Final = 14


def step_name(task: str) -> str:
    """A step's task as people read it."""
    return task.removeprefix("step.").replace("_", " ")


def submitted_and_run(by_step: Mapping[str, Mapping[str, int]]) -> str:
    """A bar a kind of step: what was submitted, and of it what had to run."""
    width, left, right, top, bottom = 530, 150, 92, 8, 30
    height = top + bottom + _ROW * max(1, len(by_step))
    most = max((one["submitted"] for one in by_step.values()), default=1)
    x = Linear(0, most, left, width - right)
    parts = [line((x(tick), top), (x(tick), height - bottom), "grid") for tick in x.ticks(5)]
    parts += [text(x(tick), height - bottom + 18, f"{tick:g}", "tick", "middle") for tick in x.ticks(5)]
    for place, (task, counts) in enumerate(by_step.items()):
        y = top + place * _ROW + (_ROW - _THIN) / 2
        submitted, ran = counts["submitted"], counts["run"]
        told = f"{step_name(task)}: {ran} run of {submitted} submitted"
        for kind, count in (("submitted", submitted), ("run", ran)):
            parts.append(
                element("rect", title(told), x=left, y=y, width=x(count) - left, height=_THIN, class_=f"bar {kind}")
            )
        parts.append(text(left - 8, y + _THIN - 3, step_name(task), "label", "end"))
        parts.append(text(x(max(submitted, ran)) + 6, y + _THIN - 3, f"{ran} of {submitted}", "mark"))
    return drawing(width, height, parts, "Steps submitted and run, by kind")


def starts(run: NetworkRecording, ids: Collection[int], longest_ms: float) -> str:
    """A line an operation, from its submission to its end: filled where it ran a step, hollow where another ran it for it."""
    rows = [one for one in run.operations if one.id in ids]
    width, left, right, top, bottom = 530, 70, 64, 8, 32
    height = top + bottom + _ROW * max(1, len(rows))
    x = Linear(0, longest_ms, left, width - right)
    parts = [line((x(tick), top), (x(tick), height - bottom), "grid") for tick in x.ticks(6)]
    parts += [text(x(tick), height - bottom + 18, f"{tick:g} ms", "tick", "middle") for tick in x.ticks(6)[::2]]
    began_at = min((one.submitted_at for one in rows), default=0.0)
    height_of = {one.id: top + place * _ROW + _ROW / 2 for place, one in enumerate(rows)}
    blocks: list[str] = []
    for one in rows:
        y = height_of[one.id]
        ended_at = one.ended_at or one.submitted_at
        begin, end = x((one.submitted_at - began_at) * 1000), x((ended_at - began_at) * 1000)
        parts.append(line((begin, y), (end, y), "life"))
        parts.append(text(left - 8, y + 4, f"start {one.target.rpartition('-')[2]}", "label", "end"))
        parts.append(text(end + 5, y + 4, duration((ended_at - one.submitted_at) * 1000), "tick"))
        for entry in one.trail:
            if "began_at" not in entry:
                continue
            left_edge = x((seconds(entry["began_at"]) - began_at) * 1000)
            wide = max(2.0, x((seconds(entry["ended_at"]) - began_at) * 1000) - left_edge)
            kind = STEP_CLASSES.get(entry["task"], "plug")
            leader = entry.get("into")
            if leader in height_of:
                parts.append(line((left_edge, height_of[leader]), (left_edge, y), f"fold {kind}"))
            blocks.append(
                element(
                    "rect",
                    title(_told(entry, one)),
                    x=left_edge,
                    y=y - _THIN / 2,
                    width=wide,
                    height=_THIN,
                    rx=2,
                    class_=f"step {kind}{' folded' if leader else ''}",
                )
            )
    ran = Counter(entry["how"] for one in rows for entry in one.trail)
    name = f"{len(rows)} starts over time: {ran['ran']} steps run, {ran['folded']} folded"
    return drawing(width, height, [*parts, *blocks], name)


def seconds(when: str) -> float:
    """A time of a trail as seconds of the epoch: the database writes it as ISO 8601."""
    return datetime.fromisoformat(when).timestamp()


def longest_ms(run: NetworkRecording, *several: Collection[int]) -> float:
    """What timelines have to hold, so that one can be held against the other."""
    spans = [0.0]
    for ids in several:
        rows = [one for one in run.operations if one.id in ids and one.ended_at is not None]
        first = min((one.submitted_at for one in rows), default=0.0)
        spans += [((one.ended_at or 0.0) - first) * 1000 for one in rows]
    return max(spans) or 1.0


def _told(entry: Mapping[str, Any], one: OperationRow) -> str:
    what = f"{step_name(entry['task'])} for {one.target}"
    if "into" in entry:
        return f"{what}: ran with operation {entry['into']}, folded {entry['where'].replace('_', ' ')}"
    return f"{what}: ran, for {entry['served']}"
