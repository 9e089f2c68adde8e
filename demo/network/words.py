"""The network part in short, for the terminal and for the page. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from demo.words import count, duration, spread


class Row(NamedTuple):
    """A figure and what it is of."""

    what: str
    got: str
    of: str


def network_rows(figures: dict[str, Any]) -> list[Row]:
    """The figures that have no bar."""
    starts, folds = figures["incident"], figures["folds"]
    submitted, ran = figures["steps_submitted"], figures["steps_run"]
    return [
        Row(
            "steps run",
            f"{ran:,}",
            f"of {submitted:,} submitted by {count(figures['operations'], 'operation')}; folded {folds['on_submit']:,}"
            f" on submit, {folds['in_operation']:,} within an operation, {folds['at_worker']:,} at the worker",
        ),
        Row(
            "six starts, steps run",
            str(starts["with"]["steps_run"]),
            f"of {starts['with']['steps_submitted']}; sharing nothing {starts['without']['steps_run']}",
        ),
        Row(
            "six starts, slowest",
            duration(starts["with"]["slowest_wait_ms"]),
            f"sharing nothing {duration(starts['without']['slowest_wait_ms'])}{ratio(figures)}",
        ),
        Row("operation, to its end", spread(figures["wait_ms"]), f"p50 / p99 of {figures['wait_ms']['n']}"),
        Row("its waiter told", spread(figures["wake_ms"]), f"p50 / p99 of {figures['wake_ms']['n']}, from the end on"),
        Row("networks", figures["driver"], figures["words"]),
    ]


def ratio(figures: dict[str, Any]) -> str:
    """How many times as long the slowest start takes when none shares; nothing when one of them never ended."""
    found = figures["incident"]["ratio"]
    rounds = figures["incident"]["rounds"]
    return "" if found is None else f", {found:.1f} times as long (the median of {count(rounds, 'round')})"
