"""`stoker top`: pool, queues, operations and the latest events on one screen, for as long as it is watched."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from scheduler.errors import Temporary
from scheduler.store import history, operations, status
from tasks.cli import operation_views, views
from tasks.cli.output import console, plain_table, print_json
from tasks.cli.status import queue_lengths

if TYPE_CHECKING:
    from tasks.context import Context

_EVENTS = 8


def look(context: Context) -> dict[str, Any]:
    """What there is now. What an engine that is away would have said is null, and its error says why."""
    seen: dict[str, Any] = {
        **queue_lengths(context),
        "profiles": None,
        "operations": None,
        "events": None,
        "error": None,
    }
    try:
        seen["profiles"] = status.pool(context.db)
        seen["operations"] = operations.live(context.db)
        seen["events"] = history.events(context.db, limit=_EVENTS)
    except Temporary as error:
        seen["error"] = str(error)
    return seen


def screen(context: Context) -> RenderableType:
    """The same for people."""
    seen = look(context)
    queues = plain_table("queues")
    for column in ("queue", "waiting"):
        queues.add_column(column)
    for queue, waiting in seen["queues"].items():
        queues.add_row(Text(queue), Text("Redis is away" if waiting is None else str(waiting)))
    if seen["error"] is not None:
        return Group(queues, Text(f"PostgreSQL is away: {seen['error']}", style="red"))
    events = plain_table("latest events")
    for column in ("at", "kind", "profile", "worker"):
        events.add_column(column)
    for event in seen["events"]:
        cells = (f"{event['at']:%H:%M:%S}", event["kind"], event["profile"] or "", str(event["worker_id"] or ""))
        events.add_row(*map(Text, cells))
    try:
        return Group(views.pool(context.db), queues, operation_views.live(seen["operations"]), events)
    except Temporary as error:  # it went between two questions
        return Group(queues, Text(f"PostgreSQL is away: {error}", style="red"))


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
