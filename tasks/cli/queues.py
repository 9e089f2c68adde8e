"""`stoker queues`: what waits where and for how long, and what may change while it runs."""

from __future__ import annotations

import getpass
import json
import os
import socket
import sys
import time
from contextlib import closing
from typing import Annotated, Any, Final

import redis
import typer
from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from scheduler.errors import Temporary
from scheduler.redis.connection import connect
from scheduler.redis.queues import counts, policy
from scheduler.store import queues as store
from tasks.cli import queue_views as views
from tasks.cli.output import JsonFlag, console, print_json, print_table
from tasks.cli.status import celery_queues
from tasks.context import Context, current

app = typer.Typer(help="Queues: what waits, for how long, who serves it; bounds and reserves, changed while it runs.")

_PERIOD_S: Final = 1.0
_REMEDY: Final = "check that it runs (`stoker doctor`), then try again"

Name = Annotated[str, typer.Argument(help="A class of work; its queues on nodes follow it.")]


class Watcher:
    """Looks at the queues, each time beside what it saw the time before."""

    def __init__(self, context: Context, client: redis.Redis) -> None:
        self._context, self._client = context, client
        self._last: counts.Sample | None = None

    def rows(self, *, totals: bool) -> list[dict[str, Any]]:
        """What there is, a second after the look before.

        Raises:
            Temporary: Redis or PostgreSQL did not answer.
        """
        before, self._last = self._last or self._sample(), None
        began_s = time.monotonic()
        # They are asked for a second's answers, so that the wait is of use.
        served = {node: [queue["name"] for queue in all_] for node, all_ in celery_queues(self._context).items()}
        time.sleep(max(0.0, began_s + _PERIOD_S - time.monotonic()))
        self._last = self._sample()
        look = views.Look(before, self._last, store.policies(self._context.db), served)
        return look.rows(self._context.settings, totals=totals)

    def _sample(self) -> counts.Sample:
        try:
            return counts.sample(self._client, self._context.settings.all_queues)
        except redis.RedisError as error:
            raise Temporary("Redis did not answer", got=str(error), remedy=_REMEDY) from error


@app.callback(invoke_without_command=True)
def show(
    asked: typer.Context,
    watch: Annotated[
        bool, typer.Option(help="Redraw every second until Ctrl-C; *used* is since the look before.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """What waits in each queue, its oldest wait and its bound, its reserve and what it used, and who serves it.

    With --watch, *used* is since the look before; without, of all time. With --watch --json, a line a second.
    """
    if asked.invoked_subcommand is not None:
        return
    context = current()
    with closing(connect(context.settings.redis_client_url)) as client:
        watcher = Watcher(context, client)
        if watch:
            _watch(watcher, as_json=as_json)
        elif as_json:
            print_json({"queues": watcher.rows(totals=True)})
        else:
            console.print(views.table(watcher.rows(totals=True)))


@app.command("set")
def set_(
    name: Name,
    bound: Annotated[str | None, typer.Option(help="How long one may wait: 500ms, 10s, 2min.")] = None,
    reserve: Annotated[str | None, typer.Option(help="Its share of dequeues once it waited longer: 0.2, 20%.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Change a bound, a reserve or both, for workers that run, within a second; until `reset`, whatever the settings say."""
    bound_s = None if bound is None else views.seconds(bound)
    part = None if reserve is None else views.share(reserve)
    db = current().db
    seen = store.policy(db, name)
    _tell(store.set_policy(db, name, bound_s=bound_s, reserve=part, by=who(), expected=seen), as_json=as_json)


@app.command()
def reset(name: Name, as_json: JsonFlag = False) -> None:
    """Let the settings say again what the bound and the reserve are."""
    db = current().db
    _tell(store.reset_policy(db, name, by=who(), expected=store.policy(db, name)), as_json=as_json)


@app.command()
def history(
    name: Annotated[str | None, typer.Argument(help="Only this class.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    as_json: JsonFlag = False,
) -> None:
    """Who changed what of the queues, newest last."""
    context = current()
    rows = store.history(context.db, name, limit)[::-1]
    if name is not None and not rows:
        store.policy(context.db, name)  # refused, if there never was one of that name
    if as_json:
        print_json(rows)
    else:
        shown = [{**row, "before": views.words(row["before"]), "after": views.words(row["after"])} for row in rows]
        print_table("changes: bound, reserve", ("at", "queue", "before", "after", "by"), shown)


def _watch(watcher: Watcher, *, as_json: bool) -> None:
    def look() -> list[dict[str, Any]] | Temporary:
        try:
            return watcher.rows(totals=False)
        except Temporary as error:  # shown as long as it lasts: whoever watches wants to see the end of it
            time.sleep(_PERIOD_S)
            return error

    def frame() -> RenderableType:
        seen = look()
        if isinstance(seen, Temporary):
            return Text(str(seen), style="red")
        return views.table(seen, "used: since the look before")

    try:
        while as_json:
            seen = look()
            line = {"error": str(seen)} if isinstance(seen, Temporary) else {"queues": seen}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
        with Live(frame(), console=console, auto_refresh=False) as live:
            while True:
                live.update(frame(), refresh=True)
    except KeyboardInterrupt:
        return


def _tell(change: store.Change, *, as_json: bool) -> None:
    """Hand it on to the workers, and say what it was and is."""
    context = current()
    try:
        with closing(connect(context.settings.redis_client_url)) as client:
            policy.publish(context.db, client)
        published = True
    except redis.RedisError:
        published = False
    before, after = change.before.in_force(), change.after.in_force()
    changed = change.before.overrides != change.after.overrides
    if as_json:
        print_json(
            {
                "queue": change.after.name,
                "changed": changed,
                "before": before,
                "after": after,
                "is_overridden": change.after.is_overridden,
                "published": published,
            }
        )
        return
    text = f"{change.after.name}: {views.words(before)} -> {views.words(after)}"
    console.print(text if changed else f"{change.after.name} is so already: {views.words(after)}", highlight=False)
    if not published:
        late = "Redis did not answer: workers hear of it with the next sweep after it does"
        console.print(late, style="yellow", highlight=False)


def who() -> str:
    """Who changes it, for the history: the user and the machine."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.geteuid())
    return f"{user}@{socket.gethostname()}"
