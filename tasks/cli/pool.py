"""`stoker pool`: claims and workers."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.live import Live

from scheduler.store import status
from tasks.cli import views
from tasks.cli.output import JsonFlag, console, print_json, print_table
from tasks.cli.submitting import Correlation
from tasks.context import current
from tasks.draining import drain as drain_pool
from tasks.pool import Held

app = typer.Typer(no_args_is_help=True, help="Claim, renew and release warm workers; see and drain them.")


@app.command("status")
def show_status(
    as_json: JsonFlag = False,
    watch: Annotated[bool, typer.Option(help="Redraw every second until Ctrl-C.")] = False,
) -> None:
    """Profiles with their workers by state, who waits, nodes, and tenants."""
    context = current()
    if as_json:
        print_json(
            {
                "profiles": status.pool(context.db),
                "nodes": status.nodes(context.db),
                "tenants": status.tenants(context.db),
            }
        )
        return
    if not watch:
        console.print(views.pool(context.db))
        return
    with Live(views.pool(context.db), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(1.0)
            live.update(views.pool(context.db), refresh=True)


@app.command()
def claim(
    tenant: str,
    profile: str,
    wait: Annotated[float, typer.Option(help="Seconds to wait in turn for a worker.")] = 0.0,
    story: Correlation = "",
    as_json: JsonFlag = False,
) -> None:
    """Take a worker for the tenant. Exit 3 when there is none: the reason says whether asking again helps."""
    outcome = current().pool.claim(tenant, profile, wait_s=wait, correlation_id=story)
    if as_json:
        print_json(outcome.as_json())
    elif isinstance(outcome, Held):
        console.print(
            f"[green]held[/] worker [bold]{outcome.worker_id}[/] epoch {outcome.epoch} ({outcome.origin}) on {outcome.node}\n"
            f"  endpoint {outcome.endpoint}\n  token    {outcome.token}\n"
            f"  renew within {outcome.lease_s:g} s: stoker pool renew {tenant} {outcome.worker_id} {outcome.epoch} {profile}\n"
            f"  release: stoker pool release {tenant} {outcome.worker_id} {outcome.epoch}",
            soft_wrap=True,
            highlight=False,
        )
    else:
        console.print(f"[yellow]no worker[/]: {outcome.reason}")
    if not isinstance(outcome, Held):
        raise typer.Exit(3)


@app.command()
def renew(tenant: str, worker_id: int, epoch: int, profile: str, as_json: JsonFlag = False) -> None:
    """Keep a claim for another lease. Exit 3 when it has ended."""
    kept = current().pool.renew(tenant, worker_id, epoch, profile)
    _answer(
        {"renewed": kept},
        f"claim {worker_id}:{epoch} {'renewed' if kept else 'has ended'}",
        as_json=as_json,
        found=kept,
    )


@app.command()
def release(tenant: str, worker_id: int, epoch: int, as_json: JsonFlag = False) -> None:
    """End a claim. Exit 3 when it had ended before, or is another tenant's."""
    became = current().pool.release(tenant, worker_id, epoch)
    text = (
        f"worker {worker_id} is {became}"
        if became
        else f"claim {worker_id}:{epoch} of {tenant} had ended; nothing changed"
    )
    _answer({"released": became is not None, "became": became}, text, as_json=as_json, found=became is not None)


@app.command()
def workers(
    state: Annotated[str | None, typer.Option(help="Only workers in this state.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    ended: Annotated[bool, typer.Option("--ended", help="Retired and lost ones too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 200,
    as_json: JsonFlag = False,
) -> None:
    """Workers, newest first."""
    rows = status.workers(current().db, limit=limit, state=state, tenant=tenant, ended=ended)
    if as_json:
        print_json(rows)
    else:
        columns = (
            "id",
            "profile",
            "state",
            "in_state_s",
            "epoch",
            "tenant",
            "node",
            "endpoint",
            "lease_left_s",
            "failure",
        )
        print_table("workers", columns, rows)


@app.command()
def drain(
    profile: Annotated[str | None, typer.Argument(help="The profile to close to claims.")] = None,
    worker: Annotated[int | None, typer.Option(help="One worker, whatever it does: its claim ends.")] = None,
    node: Annotated[str | None, typer.Option(help="A node: cordon it and stop what serves nobody there.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Open the profile or node again.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Stop offering a profile's or a node's workers, or stop one worker."""
    drained = drain_pool(current(), worker=worker, profile=profile, node=node, undo=undo)
    text = "open again" if undo else f"draining {len(drained)} workers"
    _answer({"drained": drained, "undone": undo}, text, as_json=as_json, found=True)


def _answer(value: dict[str, object], text: str, *, as_json: bool, found: bool) -> None:
    if as_json:
        print_json(value)
    else:
        console.print(text, style=None if found else "yellow", highlight=False)
    if not found:
        raise typer.Exit(3)
