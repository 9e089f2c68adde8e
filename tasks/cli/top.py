"""`stoker top`: pool, queues, operations and the latest events on one screen, for as long as it is watched."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import redis
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from config.names import class_of
from scheduler.errors import Temporary
from scheduler.redis.connection import at_once, connect
from scheduler.redis.queues import counts
from scheduler.store import beat, figures, history, operations, status
from scheduler.store import queues as queue_store
from tasks.cli import operation_views, views
from tasks.cli.output import console, duration, plain_table, print_json

if TYPE_CHECKING:
    from tasks.context import Context

_EVENTS = 8


def look(context: Context) -> dict[str, Any]:
    """What there is now. What an engine that is away would have said is null, and its error says why."""
    seen: dict[str, Any] = dict.fromkeys(("profiles", "operations", "folds", "beat", "events", "error"))
    bounds: dict[str, float] = {}
    try:
        bounds = {policy.name: policy.bound_s for policy in queue_store.policies(context.db)}
        holder = beat.active_beat(context.db)
        seen["beat"] = {"active": holder is not None} | (asdict(holder) if holder else {})
        seen["profiles"] = status.pool(context.db)
        seen["operations"] = operations.live(context.db)
        seen["folds"] = figures.folds(context.db)
        seen["events"] = history.events(context.db, limit=_EVENTS)
    except Temporary as error:
        seen["error"] = str(error)
    return {"queues": _queues(context, bounds), **seen}


def _queues(context: Context, bounds: dict[str, float]) -> dict[str, dict[str, Any]]:
    """What waits in each, for how long its first has, and how long it may; a node's queue has the bound of its class."""
    names = context.settings.all_queues
    found: dict[str, dict[str, Any]] = {
        name: {"waiting": None, "oldest_s": None, "bound_s": bounds.get(class_of(name))} for name in names
    }
    try:
        sample = counts.sample(connect(context.settings.redis_client_url, retry=at_once()), names)
    except redis.RedisError:
        return found
    for name, queue in sample.queues.items():
        found[name] |= {"waiting": queue.depth, "oldest_s": queue.oldest_s}
    return found


def screen(context: Context) -> RenderableType:
    """The same for people."""
    seen = look(context)
    queues = _queue_table(seen["queues"])
    if seen["error"] is not None:
        return Group(queues, Text(f"PostgreSQL is away: {seen['error']}", style="red"))
    events = plain_table("latest events")
    for column in ("at", "kind", "profile", "worker"):
        events.add_column(column)
    for event in seen["events"]:
        cells = (f"{event['at']:%H:%M:%S}", event["kind"], event["profile"] or "", str(event["worker_id"] or ""))
        events.add_row(*map(Text, cells))
    try:
        pool = views.pool_of(seen["profiles"], status.nodes(context.db), status.tenants(context.db))
    except Temporary as error:  # it went between two questions
        return Group(queues, Text(f"PostgreSQL is away: {error}", style="red"))
    return Group(
        _beat(seen["beat"]), pool, queues, operation_views.live(seen["operations"]), *_folds(seen["folds"]), events
    )


def _queue_table(queues: dict[str, dict[str, Any]]) -> RenderableType:
    """A class's queue always, a node's while something waits there."""
    table = plain_table("queues")
    for column in ("queue", "waiting", "oldest", "bound"):
        table.add_column(column)
    for name, queue in queues.items():
        if class_of(name) != name and not queue["waiting"]:
            continue
        oldest_s, bound_s = queue["oldest_s"], queue["bound_s"]
        is_overdue = oldest_s is not None and bound_s is not None and oldest_s > bound_s
        table.add_row(
            Text(name),
            Text("Redis is away" if queue["waiting"] is None else str(queue["waiting"])),
            Text(duration(oldest_s) + (" overdue" if is_overdue else ""), style="red" if is_overdue else ""),
            Text(duration(bound_s)),
        )
    return table


def _beat(beat_seen: dict[str, Any]) -> Text:
    if not beat_seen["active"]:
        return Text("no beat sends what is due", style="red")
    age = duration(max(0.0, beat_seen["age_s"]))
    return Text(f"beat {beat_seen['host']}, process {beat_seen['pid']}, heard of {age} ago", style="dim")


def _folds(rows: list[dict[str, Any]]) -> list[RenderableType]:
    if not rows:
        return []
    table = plain_table("steps, as counted")
    for column in ("step", "asked for", "folded", "equal, not folded"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for row in rows:
        missed = Text(str(row["missed"]), style="yellow" if row["missed"] else "dim")
        table.add_row(row["step"], str(row["requests"]), str(row["folded"]), missed)
    return [table]


def watch(context: Context, *, once: bool, as_json: bool) -> None:
    """Print it once, or draw it again every second until Ctrl-C."""
    if as_json:
        print_json(look(context))
    elif once:
        console.print(screen(context))
    else:
        with Live(screen(context), console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while True:
                time.sleep(1.0)
                live.update(screen(context), refresh=True)
