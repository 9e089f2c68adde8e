"""`python -m demo`: networks and the cold ramp, on this machine, in a minute or two."""

from __future__ import annotations

from typing import Annotated

import typer

from demo.run import run_demo


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON for programs.")] = False,  # noqa: FBT002 - a flag
    report: Annotated[str, typer.Option(help="Folder for demo-report.json and demo-report.html.")] = ".",
) -> None:
    """Start six instances on one network at once, then 30 tenants against a floor of 5 workers. Exit 1 on any violation."""
    raise typer.Exit(run_demo(report, as_json=as_json))


if __name__ == "__main__":
    typer.run(demo)
