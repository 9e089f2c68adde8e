"""The commands of `stoker` that stand on their own, and the groups below it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.text import Text

from config.settings import SettingsError, load
from scheduler.errors import StokerError
from tasks.cli.output import JsonFlag, console, fail, print_json, print_table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Warm workers for many tenants, and operations on networks, on Celery.",
)


@app.command()
def up() -> None:
    """Run everything on this machine: engines, Celery workers, beat, Flower, exporter. Ctrl-C ends it all."""
    from tasks.celery_app import app as celery_app  # noqa: PLC0415 - a start that only prints help should not load Celery
    from tasks.context import Context  # noqa: PLC0415
    from tasks.draining import empty_pool  # noqa: PLC0415
    from tasks.up import run_stack  # noqa: PLC0415

    context = Context(load(), celery_app)
    run_stack(context.settings, prepare=context.prepare, on_stop=lambda: _say_emptied(empty_pool(context)))


@app.command()
def exporter(
    port: Annotated[int | None, typer.Option(help="Instead of that of the settings; 0 = any that is free.")] = None,
) -> None:
    """Serve metrics to Prometheus: how long tasks waited and why, and the queues as they are. Until it is stopped."""
    from tasks.cli.exporter import serve  # noqa: PLC0415 - as in `up`

    serve(port)


@app.command()
def top(
    once: Annotated[bool, typer.Option(help="Print it once, and end.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Pool, queues, operations and the latest events on one screen, until Ctrl-C. --json prints it once."""
    from tasks.cli.top import watch  # noqa: PLC0415 - as in `up`
    from tasks.context import current  # noqa: PLC0415

    watch(current(), once=once, as_json=as_json)


@app.command()
def migrate(
    check: Annotated[bool, typer.Option(help="Change nothing; exit 1 if the database is not of this version.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Bring the database to this version and carry the settings into it."""
    from scheduler.store import revision  # noqa: PLC0415 - as in `up`
    from tasks.context import current  # noqa: PLC0415

    if check:
        found = current().db.transaction(revision.revision)
        if as_json:
            print_json({"found": found, "expected": revision.NEWEST, "is_current": found == revision.NEWEST})
        else:
            console.print(f"the tables are at revision {found or '(none)'}; this version is made for {revision.NEWEST}")
        raise typer.Exit(0 if found == revision.NEWEST else 1)
    migrated = current().prepare()
    if as_json:
        print_json({"migrated": True, "before": migrated.before, "after": migrated.after})
    elif migrated.before == migrated.after:
        console.print(
            f"the tables are at revision {migrated.after} already; profiles and tenants are those of the settings"
        )
    else:
        console.print(
            f"[green]migrated[/] from {migrated.before or 'nothing'} to revision {migrated.after}; "
            "profiles and tenants are those of the settings"
        )


@app.command()
def doctor(as_json: JsonFlag = False) -> None:
    """Check every assumption and print the remedy of each that does not hold. Exit 1 if one does not."""
    from tasks.cli.doctor import examine  # noqa: PLC0415 - as in `up`

    checks = list(examine())
    if as_json:
        print_json([vars(check) for check in checks])
    else:
        for check in checks:
            mark = ("ok   ", "green") if check.ok else ("WRONG", "bold red")
            console.print(
                Text.assemble(mark, f" {check.name}: ", (check.found, "dim" if check.ok else "")), soft_wrap=True
            )
            if not check.ok and check.remedy:
                console.print(Text(f"      remedy: {check.remedy}", style="yellow"))
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


@app.command()
def health(
    service: Annotated[
        str | None,
        typer.Argument(help="A Celery worker (spawn, ...), beat, flower, exporter or engines. All, if none."),
    ] = None,
    node: Annotated[str | None, typer.Option(help="The worker's own name, where it is not SERVICE@%h.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds to wait for an answer.")] = 3.0,
    as_json: JsonFlag = False,
) -> None:
    """Whether services of this machine work: exit 0 if so, 1 if one does not."""
    from tasks.cli.health import examine, show  # noqa: PLC0415 - as in `up`

    found = examine(service, node, timeout)
    show(found, as_json=as_json)
    if not all(each.ok for each in found):
        raise typer.Exit(1)


@app.command()
def status(as_json: JsonFlag = False) -> None:
    """Celery workers, queues, operations and the pool, as they are now."""
    from tasks.cli.status import look, show  # noqa: PLC0415 - as in `up`
    from tasks.context import current  # noqa: PLC0415

    if as_json:
        print_json(look(current()))
    else:
        show(current())


@app.command()
def events(
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    kind: Annotated[str | None, typer.Option(help="Only kinds that begin so: worker, claim, reconcile.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    worker: Annotated[int | None, typer.Option(help="Only this worker's.")] = None,
    story: Annotated[
        str | None,
        typer.Option("--correlation", metavar="ID", help="Only of this claim or operation, with all its steps."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """What happened, newest last: the history that Flower forgets."""
    from scheduler.store import history  # noqa: PLC0415 - as in `up`
    from tasks.context import current  # noqa: PLC0415

    rows = history.events(current().db, limit=limit, kind=kind, tenant=tenant, worker=worker, correlation_id=story)[
        ::-1
    ]
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            row["detail"] = {**row["detail"], "correlation_id": None if story else row["correlation_id"]}
        print_table("events", ("at", "kind", "worker_id", "tenant", "profile", "detail"), rows)


def main() -> None:
    """The console script. Errors that are answers end in one line and an exit code, not in a traceback."""
    try:
        # The groups load what pools and networks are made of: more than all that a health check costs besides.
        if sys.argv[1:2] != ["health"]:
            _add_groups()
        app()
    except (StokerError, SettingsError) as error:
        raise SystemExit(fail(error, as_json="--json" in sys.argv).exit_code) from None


def _add_groups() -> None:
    from tasks.cli.networks import app as network_app  # noqa: PLC0415 - these read the settings: `main` shows their errors
    from tasks.cli.operations import app as operation_app  # noqa: PLC0415
    from tasks.cli.pool import app as pool_app  # noqa: PLC0415
    from tasks.cli.queues import app as queues_app  # noqa: PLC0415
    from tasks.cli.schedule import app as schedule_app  # noqa: PLC0415
    from tasks.cli.simulate import app as simulate_app  # noqa: PLC0415

    groups = {
        "pool": pool_app,
        "network": network_app,
        "op": operation_app,
        "queues": queues_app,
        "schedule": schedule_app,
        "simulate": simulate_app,
    }
    if not app.registered_groups:
        for name, group in groups.items():
            app.add_typer(group, name=name)


def _say_emptied(stopped: int) -> None:
    console.print(f"stopped {stopped} workers", style="dim")
