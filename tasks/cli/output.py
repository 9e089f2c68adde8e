"""How commands print: tables for people, JSON for programs, errors with their remedy on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

console = Console()
errors = Console(stderr=True)

# The exit codes that are answers, beside 0 and the 1 of an error.
NOT_NOW: Final = 3  # there was none, or not in time: asking again may help
ENDED_BADLY: Final = 4  # what was waited for has failed, or was cancelled

STATE_COLOURS: Final = {
    "spawning": "yellow",
    "idle": "green",
    "activating": "cyan",
    "active": "bold cyan",
    "hot_idle": "magenta",
    "draining": "dim",
    "retired": "dim",
    "lost": "red",
    "waiting": "yellow",
    "queued": "yellow",
    "running": "cyan",
    "succeeded": "green",
    "failed": "bold red",
    "cancelled": "dim",
}
_MINUTE_S: Final = 60


def print_json(value: Any) -> None:  # noqa: ANN401 - whatever a command found
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, default=_plain, indent=2) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A table of the rows' columns; says so when there is none."""
    table = plain_table(title)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    count = 0
    for row in rows:
        table.add_row(*(cell(column, row.get(column)) for column in columns))
        count += 1
    console.print(table if count else Text(f"{title}: none", style="dim"))


def plain_table(title: str | None = None) -> Table:
    """An empty table in the one style there is."""
    return Table(
        title=title, title_justify="left", title_style="bold", header_style="dim", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )


def cell(column: str, value: Any) -> Text:  # noqa: ANN401 - any column
    """One value as people read it."""
    if value is None:
        return Text("-", style="dim")
    if isinstance(value, datetime):
        return Text(value.astimezone().strftime("%H:%M:%S.%f")[:-3])
    if isinstance(value, float):
        return Text(f"{value:.1f}")
    if isinstance(value, dict):
        return Text(" ".join(f"{key}={part}" for key, part in value.items() if part is not None))
    return Text(str(value), style=STATE_COLOURS.get(str(value), "") if column == "state" else "")


def duration(seconds: float | None) -> str:
    """A time span as people read it: 12 ms, 3.45 s, 2 min 5 s."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE_S:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), _MINUTE_S)
    hours, minutes = divmod(minutes, _MINUTE_S)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def fail(error: Exception, *, as_json: bool = False, code: int = 1) -> typer.Exit:
    """Print the error; the exit to raise."""
    if as_json:
        print_json({"error": str(error), "kind": type(error).__name__})
    else:
        errors.print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
    return typer.Exit(code)


def _plain(value: Any) -> Any:  # noqa: ANN401 - what json cannot write itself
    return value.isoformat() if isinstance(value, datetime) else str(value)
