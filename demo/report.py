"""demo-report.json and demo-report.html, and the summary that the terminal shows."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from demo.judgement import held
from demo.network.words import network_rows
from demo.report_page import page
from demo.words import spread

if TYPE_CHECKING:
    from pathlib import Path

    from demo.judgement import Check
    from demo.record import Recording

JSON_NAME: Final = "demo-report.json"
HTML_NAME: Final = "demo-report.html"

_TIMES: Final = {
    "warm": "claim, a worker idle",
    "waited": "claim, none idle",
    "statement": "claim, its SQL alone",
}
_COUNTS: Final = ("claims", "queries", "peak_workers", "reaped")


def write_report(
    folder: Path, run: Recording, figures: dict[str, Any], networks: dict[str, Any], checks: list[Check]
) -> dict[str, Any]:
    """Write both files; the document of demo-report.json."""
    document = report_document(run, figures, networks, checks)
    (folder / JSON_NAME).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (folder / HTML_NAME).write_text(page(run, figures, networks, checks), encoding="utf-8")
    return document


def violations(run: Recording) -> dict[str, list[str]]:
    """What must not happen and did, in words."""
    return {
        "failures": run.seen.failures,
        "wrong_results": run.seen.wrong_results,
        "operations": [
            f"operation {one.id}, {one.kind} of {one.target}, {one.state}: {one.error}"
            for one in run.network.operations
            if one.state != "succeeded"
        ],
        "lost_updates": [str(difference) for difference in run.network.differences],
    }


def report_document(
    run: Recording, figures: dict[str, Any], networks: dict[str, Any], checks: list[Check]
) -> dict[str, Any]:
    """What demo-report.json holds: the figures, their judgement, and the samples behind the first plot."""
    return {
        "pool": figures,
        "network": networks,
        "held": held(checks),
        "checks": [asdict(check) for check in checks],
        "violations": violations(run),
        "began": run.began,
        "wall_s": round(run.wall_s, 1),
        "machine": run.machine,
        "timeline": {
            "burst_s": round(run.burst_s, 2),
            "phases": [asdict(phase) for phase in run.phases],
            "samples": [{"at_s": round(s.at_s, 2), **s.workers, "waiting": s.waiting} for s in run.samples],
        },
    }


def summary(figures: dict[str, Any], networks: dict[str, Any], checks: list[Check]) -> Table:
    """The checks and latencies as a table for a terminal."""
    table = Table(box=SIMPLE_HEAD, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("got", justify="right")
    table.add_column("bar", justify="right", style="dim")
    table.add_column("")
    for check in checks:
        mark = (
            Text("held", "green")
            if check.ok
            else Text("VIOLATED", "bold red")
            if check.must
            else Text("missed", "yellow")
        )
        table.add_row(check.name, Text(check.got), check.bar, mark)
    table.add_section()
    for name, what in _TIMES.items():
        measured = figures["claim_ms"][name]
        table.add_row(what, spread(measured), "", Text(f"p50 / p99 of {measured['n']}", "dim"))
    for name in _COUNTS:
        table.add_row(name.replace("_", " "), f"{figures[name]:,}", "", "")
    table.add_section()
    for row in network_rows(networks):
        table.add_row(row.what, row.got, "", Text(row.of, "dim"))
    return table
