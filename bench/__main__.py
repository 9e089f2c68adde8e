"""`python -m bench NAME [--quick] [--json]`; without a name, the list of benches."""

from __future__ import annotations

import difflib
import json
import sys
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.catalogue import BENCHES, Bench
from bench.progress import StatusLine
from bench.result import Result, write
from config.settings import SettingsError
from scheduler.errors import StokerError

# A pipe has no width of its own, and these tables are wider than the default.
console = Console(width=None if sys.stdout.isatty() else 120)
errors = Console(stderr=True)


def main(
    name: Annotated[str, typer.Argument(help="The bench to run; none lists them.", show_default=False)] = "",
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Some seconds: whether it works, not how fast.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON that is also written.")] = False,
) -> None:
    """Measure, print a table, and write bench-results/NAME.json."""
    if not name:
        _list()
        return
    bench = BENCHES.get(name)
    if bench is None:
        near = difflib.get_close_matches(name, BENCHES, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(BENCHES)}"
        errors.print(f"unknown bench {name!r}: {remedy}")
        raise typer.Exit(2)
    try:
        _run(bench, quick=quick, as_json=as_json)
    except (StokerError, SettingsError) as error:
        errors.print(f"[bold red]error:[/] {error}", soft_wrap=True)
        raise typer.Exit(1) from error


def _list() -> None:
    table = Table("bench", "measures", header_style="bold")
    for bench in BENCHES.values():
        table.add_row(bench.name, bench.measures)
    console.print(table)
    console.print("run one with `make bench ONLY=name`", style="dim")


def _run(bench: Bench, *, quick: bool, as_json: bool) -> None:
    before: dict[str, Any] = {
        "bench": bench.name,
        "quick": quick,
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.facts(),
    }
    began = time.monotonic()
    with StatusLine(bench.name) as progress:
        result = bench.run(progress, quick=quick)
    before["machine"].update(result.engines)
    took = {"took_s": round(time.monotonic() - began, 1), "load_average_after": machine.load_average()}
    document = {**before, **took, **result.as_json()}
    path = write(bench.name, document)
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    _show(result)
    console.print(f"written to {path}", style="dim")


def _show(result: Result) -> None:
    for table in (*result.tables, result.summary()):
        console.print(table)


if __name__ == "__main__":
    typer.run(main)
