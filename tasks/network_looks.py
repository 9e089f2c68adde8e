"""Networks as they should be, from SQL, and as they are, as far as this machine can see."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from scheduler.errors import StokerError
from scheduler.store import networks
from tasks.network.compare import differences
from tasks.network.here import is_here

if TYPE_CHECKING:
    from tasks.context import Context


def look(context: Context, name: str | None = None) -> list[dict[str, Any]]:
    """Networks with, in `seen`, what the driver of this machine observes on each node, and how that differs."""
    return [
        {**row, "seen": [_look(context, row, node) for node in row["nodes"]]} for row in context.networks.show(name)
    ]


def _look(context: Context, row: dict[str, Any], node: str) -> dict[str, Any]:
    known = context.settings.network.nodes.get(node)
    if known is None or not is_here(known, context.settings.network.driver):
        why = "no longer in [network.nodes]" if known is None else "another machine's"
        return {"node": node, "observed": None, "why": why, "differences": []}
    try:
        view = networks.view(context.db, row["name"], node, context.underlay)
        seen = context.network_driver.observe(node, row["vni"])
    except StokerError as error:
        return {"node": node, "observed": None, "why": str(error), "differences": []}
    found = [
        {"what": one.what, "missing": _less(one.wanted, one.seen), "extra": _less(one.seen, one.wanted)}
        for one in differences(view, seen)
    ]
    return {"node": node, "observed": asdict(seen), "why": None, "differences": found}


def _less(these: object, others: object) -> list[Any]:
    """What is in these, or is this, and is not in the others."""
    known = _several(others)
    return [
        asdict(one) if is_dataclass(one) and not isinstance(one, type) else one
        for one in _several(these)
        if one not in known
    ]


def _several(value: object) -> tuple[object, ...]:
    if isinstance(value, tuple):
        return value
    return () if value is None else (value,)
