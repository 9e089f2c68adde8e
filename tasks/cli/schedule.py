"""`stoker schedule`: what beat sends and when, and what may change of it while it runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from config.names import TICK_TASKS
from scheduler.store import beat
from scheduler.store import schedule as store
from tasks.cli import schedule_views as views
from tasks.cli.output import JsonFlag, console, print_json
from tasks.cli.queues import who
from tasks.cli.schedule_checks import Edit, check_entry
from tasks.context import Context, current

app = typer.Typer(help="The schedule: what beat sends and when; edited while it runs, in force within a second.")

Name = Annotated[str, typer.Argument(help="An entry.")]
Revision = Annotated[int | None, typer.Option(help="Only if it is still the one that `show` printed.")]
_TICKS_SHOWN = 10


@app.callback(invoke_without_command=True)
def everything(asked: typer.Context, as_json: JsonFlag = False) -> None:
    """All entries, when each was sent and is due, what differs from the settings, and which beat sends."""
    if asked.invoked_subcommand is None:
        list_(as_json=as_json)


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """All entries, when each was sent and is due, what differs from the settings (*, +), and which beat sends."""
    context = current()
    last = store.last_ticks(context.db)
    rows = [views.row(one, context.settings, last.get(one.name)) for one in store.entries(context.db)]
    active = views.beat_row(beat.active_beat(context.db))
    if as_json:
        print_json({"entries": rows, "beat": active})
    else:
        console.print(views.table(rows, store.now(context.db), active))


@app.command()
def show(
    name: Name,
    ticks: Annotated[int, typer.Option(min=0, max=1_000, help="How many of the last ones sent.")] = _TICKS_SHOWN,
    as_json: JsonFlag = False,
) -> None:
    """All of an entry: its next five times in its zone and in UTC, and what was sent last."""
    context = current()
    now = store.now(context.db)
    entry = store.entry(context.db, name)
    sent = store.ticks(context.db, name, max(1, ticks))
    one = views.row(entry, context.settings, sent[0] if sent else None)
    due, active = views.upcoming(entry, now), views.beat_row(beat.active_beat(context.db))
    if as_json:
        print_json({**one, "next": due, "ticks": sent[:ticks], "beat": active})
        return
    console.print(views.entry(one, due, now))
    console.print(views.ticks(sent[:ticks]))
    console.print(views.foot(active, now))


@app.command("set")
def set_(  # noqa: PLR0913 - an option a field
    name: Name,
    *,
    every: Annotated[str | None, typer.Option(help="An interval: 500ms, 30s, 5min, 2h.")] = None,
    cron: Annotated[str | None, typer.Option(help="A crontab: '30 2 * * mon-fri'.")] = None,
    zone: Annotated[str | None, typer.Option(help="Whose clock the crontab reads: Europe/Berlin.")] = None,
    task: Annotated[str | None, typer.Option(help="The task that is sent.")] = None,
    args: Annotated[str | None, typer.Option(help="Its arguments as a JSON array.")] = None,
    kwargs: Annotated[str | None, typer.Option(help="Its named arguments as a JSON object.")] = None,
    queue: Annotated[str | None, typer.Option(help="Its queue; '-': where the routes send the task.")] = None,
    expires: Annotated[str | None, typer.Option(help="Dropped if not begun within this; '-': never.")] = None,
    revision: Revision = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and preview it; change nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Change an entry, or add one (with --task and --every or --cron), within a second; until `reset`, whatever the settings say.

    Prints what it was and is, and the next five times.
    """
    context = current()
    old = next((one for one in store.entries(context.db) if one.name == name), None)
    said = old.in_force() if old else {}
    fields = Edit(every, cron, zone, task, args, kwargs, queue, expires).fields(said)
    wanted = {**said, **fields}
    if "task" in wanted:  # else there is no such entry, and the store says so
        check_entry(wanted, context.app, context.settings)
    seen = revision if revision is not None else old.revision if old else store.NONE_YET
    change = store.set_entry(context.db, name, fields, by=who(), expected=seen, dry_run=dry_run)
    _tell(context, name, change, as_json=as_json, dry_run=dry_run)


@app.command()
def enable(name: Name, revision: Revision = None, as_json: JsonFlag = False) -> None:
    """Send it again when it is due; what was due meanwhile is not made up for."""
    _switch(name, enabled=True, revision=revision, as_json=as_json)


@app.command()
def disable(name: Name, revision: Revision = None, as_json: JsonFlag = False) -> None:
    """Send it no more, until `enable`; `run-now` still does."""
    _switch(name, enabled=False, revision=revision, as_json=as_json)


@app.command("run-now")
def run_now(name: Name, as_json: JsonFlag = False) -> None:
    """Have it sent now, beside its own times, enabled or not. Says the id that the task will have."""
    context = current()
    asked = store.request_run(context.db, name, by=who())
    task_id = beat.task_id(name, asked.at)
    active = views.beat_row(beat.active_beat(context.db))
    if as_json:
        print_json(
            {
                "entry": name,
                "task_id": task_id,
                "asked_at": asked.at,
                "asked_by": asked.by,
                "is_new": asked.is_new,
                "beat": active,
            }
        )
        return
    first = "" if asked.is_new else f" (asked for by {asked.by} already: one message serves both)"
    console.print(f"{name} is sent as task {task_id}{first}", highlight=False)
    if active is None:
        console.print(views.NO_BEAT, style="bold red", highlight=False)


@app.command()
def reset(name: Name, revision: Revision = None, as_json: JsonFlag = False) -> None:
    """Let the settings say again what it is. An entry that they do not have is removed."""
    context = current()
    seen = store.entry(context.db, name).revision if revision is None else revision
    _tell(context, name, store.reset(context.db, name, by=who(), expected=seen), as_json=as_json)


@app.command()
def history(
    name: Annotated[str | None, typer.Argument(help="Only this entry.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    as_json: JsonFlag = False,
) -> None:
    """Who changed what of the schedule, newest last."""
    context = current()
    rows = store.history(context.db, name, limit)[::-1]
    if name is not None and not rows:
        store.entry(context.db, name)  # refused, if there never was one of that name
    if as_json:
        print_json(rows)
    else:
        console.print(views.history(rows))


def _switch(name: str, *, enabled: bool, revision: int | None, as_json: bool) -> None:
    context = current()
    seen = store.entry(context.db, name).revision if revision is None else revision
    change = store.set_enabled(context.db, name, enabled=enabled, by=who(), expected=seen)
    _tell(context, name, change, as_json=as_json)


def _tell(context: Context, name: str, change: store.Change, *, as_json: bool, dry_run: bool = False) -> None:
    """What it was and is, and when it is due."""
    now, before, after = store.now(context.db), change.before, change.after
    was, is_ = before.in_force() if before else None, after.in_force() if after else None
    due = views.upcoming(after, now) if after else []
    if as_json:
        told: dict[str, Any] = {"entry": name, "changed": was != is_, "dry_run": dry_run, "before": was, "after": is_}
        print_json({**told, "next": due, "revision": after and after.revision})
        return
    if dry_run:
        console.print("a dry run: nothing is changed; it would be", style="yellow", highlight=False)
    for line in views.changes(was, is_) or ["is so already"]:
        console.print(f"{name}: {line}", highlight=False, markup=False)
    if after is None:
        console.print("an operator had added it, and the settings have no such entry", style="dim", highlight=False)
        return
    enabled = after.definition.enabled
    console.print(views.preview(due, views.zone_of(after), now, enabled=enabled))
    if not enabled and after.definition.task in TICK_TASKS:
        console.print(
            f"without {after.definition.task} the pool is not kept: enable it again soon",
            style="bold red",
            highlight=False,
        )
