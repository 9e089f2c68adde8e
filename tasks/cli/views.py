"""Screens that several commands show."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from scheduler.store import status
from scheduler.store.database import Database
from tasks.cli.output import STATE_COLOURS, cell, plain_table

# In as few letters as fit all of them into eighty columns.
_STATES: Final = {
    "spawning": "spawn",
    "idle": "idle",
    "activating": "bind",
    "active": "active",
    "hot_idle": "hot",
    "stopping": "stop",
}


def pool(db: Database) -> RenderableType:
    """The pool: a row a profile, its nodes, the tenants that hold or are capped."""
    return pool_of(status.pool(db), status.nodes(db), status.tenants(db))


def pool_of(
    profiles: list[dict[str, Any]], nodes: list[dict[str, Any]], tenants: list[dict[str, Any]]
) -> RenderableType:
    """The same, of what was read already."""
    return Group(_profiles(profiles), _nodes(nodes), _tenants(tenants))


def _profiles(rows: list[dict[str, Any]]) -> RenderableType:
    table = plain_table("profiles")
    for column in ("profile", "floor", "max", *_STATES.values(), "wait", "oldest", "note"):
        table.add_column(column, justify="left" if column in {"profile", "note"} else "right")
    for row in rows:
        oldest = row["oldest_wait_s"]
        table.add_row(
            row["family"] if row["is_current"] else row["name"],
            str(row["floor"]),
            str(row["max_workers"] or "-"),
            *(Text(str(row[s]), style=STATE_COLOURS.get(s, "dim") if row[s] else "dim") for s in _STATES),
            Text(str(row["waiting"]), style="yellow" if row["waiting"] else "dim"),
            Text("-" if oldest is None else f"{oldest:.1f} s", style="dim" if oldest is None else "yellow"),
            _note(row),
        )
    return table if rows else Text("no profiles: run `stoker migrate`", style="yellow")


def _note(row: dict[str, Any]) -> Text:
    if not row["is_current"]:
        return Text("no longer in the settings", style="dim")
    if row["draining"]:
        return Text("draining", style="yellow")
    if row["backoff_s"] is not None:
        return Text(f"{row['failures']} failed spawns, backs off {row['backoff_s']:.0f} s", style="red")
    if row["cordoned"]:
        return Text(f"{row['cordoned']} more idle on closed nodes", style="yellow")
    return Text("below its floor", style="yellow") if row["idle"] < row["floor"] else Text("ok", style="green")


def _nodes(rows: list[dict[str, Any]]) -> RenderableType:
    table = plain_table("nodes, longest seen first")
    for column in ("node", "first seen", "workers", "idle", "cordoned"):
        table.add_column(column)
    for row in rows:
        cordoned = Text("cordoned", style="yellow") if row["cordoned"] else Text("-", style="dim")
        table.add_row(row["name"], cell("", row["first_seen"]), str(row["workers"]), str(row["idle"]), cordoned)
    return table if rows else Text("nodes: none", style="dim")


def _tenants(rows: list[dict[str, Any]]) -> RenderableType:
    shown = [row for row in rows if row["live"] or row["max_workers"]]
    table = plain_table("tenants")
    for column in ("tenant", "claims", "cap"):
        table.add_column(column)
    for row in shown:
        table.add_row(row["name"], str(row["live"]), str(row["max_workers"] or "none"))
    return table if shown else Text("tenants: none holds a claim", style="dim")
