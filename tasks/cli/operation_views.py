"""Operations as people see them. Rows in, renderables out: nothing here asks anybody anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from scheduler.core.operations import OperationState
from tasks.cli.output import STATE_COLOURS, cell, duration, plain_table
from tasks.cli.timeline import Line, Part, Span, timeline

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from tasks.cli.timeline import Timeline


@dataclass(frozen=True, slots=True)
class _Ink:
    """How a kind of time is drawn: told apart without colours too, and where there is only ASCII."""

    glyph: str
    ascii: str
    style: str


# Painted in this order: where two share a cell, what was done is seen, and what went wrong before all.
_INKS: Final = {
    "waits": _Ink("┄", "-", "dim"),
    "queued": _Ink("·", ".", "yellow"),
    "parked": _Ink("░", ":", "magenta"),
    "folded": _Ink("▒", "=", "cyan"),
    "ran": _Ink("█", "#", "green"),
    "running": _Ink("▓", "+", "bold cyan"),
    "retried": _Ink("x", "x", "yellow"),
    "lost": _Ink("!", "!", "red"),
    "failed": _Ink("X", "X", "bold red"),
}
_KINDS: Final = tuple(_INKS)
_BAR_LEAST: Final = 8
_NARROW: Final = 60  # columns; below, a table would be all folds


class Bar:
    """Spans of time on an axis that is as wide as there is room."""

    def __init__(self, spans: Sequence[Span], total_s: float) -> None:
        self._spans = sorted(spans, key=lambda span: _KINDS.index(span.kind))
        self._total_s = total_s or 1e-9

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        cells: list[_Ink | None] = [None] * width
        for span in self._spans:
            first = min(width - 1, int(span.from_s / self._total_s * width))
            last = min(width, max(first + 1, round(span.to_s / self._total_s * width)))
            cells[first:last] = [_INKS[span.kind]] * (last - first)
        ascii_only = options.ascii_only
        yield Text.assemble(
            *((" ", "") if ink is None else (ink.ascii if ascii_only else ink.glyph, ink.style) for ink in cells),
            no_wrap=True,
        )

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(_BAR_LEAST, options.max_width), options.max_width)


class Bars:
    """A bar a step, under one axis."""

    def __init__(self, time: Timeline) -> None:
        self._time = time

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        longest = max(len(_label(line)) for line in self._time.lines)
        table = Table(box=None, padding=(0, 1, 0, 0), expand=True, header_style="")
        table.add_column(no_wrap=True, overflow="crop", width=min(longest, options.max_width * 2 // 5))
        table.add_column(Axis(self._time.total_s), ratio=1)
        for line in self._time.lines:
            table.add_row(Text(_label(line)), Bar(line.spans, self._time.total_s))
        yield table


class Axis:
    """The ends of the axis, over the bars."""

    def __init__(self, total_s: float) -> None:
        self._end = duration(total_s)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width - len(self._end)
        yield Text(
            f"0{'':{room - 1}}{self._end}" if room > 1 else self._end[: options.max_width], style="dim", no_wrap=True
        )

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(_BAR_LEAST, options.max_width), options.max_width)


class Legend:
    """What the bars are made of."""

    def __init__(self, time: Timeline) -> None:
        shown = {span.kind for line in time.lines for span in line.spans}
        self._inks = [(kind, ink) for kind, ink in _INKS.items() if kind in shown]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        parts: list[tuple[str, str]] = []
        for kind, ink in self._inks:
            parts += [(ink.ascii if options.ascii_only else ink.glyph, ink.style), (f" {kind}   ", "dim")]
        yield Text.assemble(*parts)


class Times:
    """When what happened: a table, or on a narrow terminal a paragraph a run."""

    def __init__(self, time: Timeline) -> None:
        self._parts = [(line, part) for line in time.lines for part in line.parts]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if options.max_width < _NARROW:
            yield from (Text(f"{_label(line)}: {_sentence(part)}") for line, part in self._parts)
            return
        table = plain_table()
        for column in ("step", "how"):
            table.add_column(column, overflow="fold")
        for column in ("queued", "parked", "started", "ran", "ended"):
            table.add_column(column, justify="right", no_wrap=True)
        for line, part in self._parts:
            style = _INKS[part.kind].style if part.kind in _INKS else "dim"
            times = (part.began_s, part.ran_s, part.ended_s)
            cells = (_span(part.queued_s), _parked(part), *map(_span, times))
            table.add_row(_label(line), Text(part.how, style=style), *cells)
        yield table


def operation(row: Mapping[str, Any]) -> RenderableType:
    """One operation: what it is, what it waits for, its timeline, and what its error was."""
    time = timeline(row)
    return Group(_head(row), Text(), Bars(time), Legend(time), Text(), Times(time), *_ending(row))


def operations(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """A row an operation."""
    columns = ["id", "kind", "target", "state", "steps", "asked", "submitted", "took"]
    has_errors = any(row["error"] for row in rows)
    table = plain_table("operations")
    for column in [*columns, *(["error"] if has_errors else [])]:
        table.add_column(
            column, overflow="fold", justify="right" if column in {"id", "steps", "asked", "took"} else "left"
        )
    for row in rows:
        table.add_row(
            str(row["id"]),
            row["kind"],
            row["target"],
            _state(row["state"]),
            f"{row['step']}/{row['steps']}",
            str(row["asked"]),
            f"{row['submitted_at'].astimezone():%H:%M:%S}",
            duration(row["took_s"]),
            *([Text(row["error"] or "", style="red")] if has_errors else []),
        )
    return table if rows else Text("operations: none", style="dim")


def live(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Operations that have not ended, by state."""
    table = plain_table("operations that have not ended")
    table.add_column("state")
    table.add_column("count", justify="right")
    table.add_column("oldest", justify="right")
    for row in rows:
        table.add_row(_state(row["state"]), str(row["count"]), duration(row["oldest_s"]))
    return table if rows else Text("operations: all have ended", style="dim")


def submitted(answer: Mapping[str, Any]) -> RenderableType:
    """What a submitter is told: the operation's number, and how to go on."""
    number, state = answer["operation"], answer["state"]
    lines = [
        Text.assemble(
            "operation ",
            (str(number), "bold"),
            " ",
            _state(state),
            "" if answer["is_new"] else ": an equal one was pending, and stands for this request too",
            f" in {duration(answer['took_s'])}" if answer.get("took_s") is not None else "",
        )
    ]
    lines += [Text(f"  {name:9} {answer[name]}") for name in ("interface", "address", "mac") if name in answer]
    if answer.get("error"):
        lines.append(Text(f"  {answer['error']}", style="red"))
    hints = {OperationState.SUCCEEDED: "", OperationState.FAILED: "show", OperationState.CANCELLED: "show"}
    if hint := hints.get(OperationState(state), "wait"):
        lines.append(Text(f"  stoker op {hint} {number}", style="dim"))
    return Group(*lines)


def _head(row: Mapping[str, Any]) -> Text:
    facts = [f"queue {row['queue']}", f"submitted {cell('', row['submitted_at'])}"]
    if row["correlation_id"]:
        facts.append(f"correlation {row['correlation_id']}")
    if row["asked"] > 1:
        facts.append(f"stands for {row['asked']} requests")
    links = ("needs", "after", "awaited_by")
    facts += [f"{name.replace('_', ' ')} {' and '.join(map(str, row[name]))}" for name in links if row[name]]
    facts += [
        f"{entry['times']} equal step{'s' if entry['times'] > 1 else ''} folded inside the operation"
        for entry in row["trail"]
        if entry.get("where") == "in_operation"
    ]
    state = _state(row["state"])
    waits = f", on {row['unmet']} more" if row["state"] == OperationState.WAITING else ""
    took = f" {'for' if row['ended_at'] is None else 'in'} {duration(row['took_s'])}"
    return Text.assemble(
        (f"operation {row['id']}  ", "bold"),
        f"{row['kind']} {row['target']}  ",
        state,
        took,
        waits,
        "\n",
        ", ".join(facts),
    )


def _ending(row: Mapping[str, Any]) -> list[RenderableType]:
    if row["state"] not in {OperationState.FAILED, OperationState.CANCELLED}:
        return []
    lines = [Text.assemble(("error: ", "bold red"), row["error"])] if row["error"] else []
    return [*lines, Text(f"once more: stoker op submit {row['kind']} {row['target']}", style="dim")]


def _label(line: Line) -> str:
    number = "" if line.position is None else f"{line.position + 1} "
    return f"{number}{line.name}{' @ ' + line.node if line.node else ''}"


def _sentence(part: Part) -> str:
    times = (
        ("queued", _span(part.queued_s)),
        ("parked", _parked(part)),
        ("started", _span(part.began_s)),
        ("ran", _span(part.ran_s)),
        ("ended", _span(part.ended_s)),
    )
    said = [f"{name} {value}" for name, value in times if value.plain != "-"]
    return f"{part.how}{': ' if said else ''}{', '.join(said)}"


def _parked(part: Part) -> Text:
    """For how long; and how often, if more than once."""
    span = _span(part.parked_s or None)
    return span.append(f" ({part.defers} times)") if part.parked_s and part.defers > 1 else span


def _span(seconds: float | None) -> Text:
    return Text(duration(seconds), style="dim" if seconds is None else "")


def _state(state: str) -> Text:
    return Text(str(state), style=STATE_COLOURS.get(str(state), ""))
