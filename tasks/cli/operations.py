"""`stoker op`: operations and their time."""

from __future__ import annotations

from typing import Annotated

import typer

from config.names import USER_FACING_QUEUE
from scheduler.core.network_plans import check_kind
from scheduler.core.operations import OperationState
from scheduler.store import operations as store
from tasks.cli import operation_views
from tasks.cli.output import NOT_NOW, JsonFlag, console, print_json
from tasks.cli.submitting import Correlation, Queue, Wait, exit_as
from tasks.cli.submitting import submit as submit_and_wait
from tasks.context import current

app = typer.Typer(no_args_is_help=True, help="Submit, watch, wait for and cancel operations.")

Id = Annotated[int, typer.Argument(min=1, max=2**63 - 1, metavar="ID", help="The operation's number.")]


@app.command()
def submit(  # noqa: PLR0917 - the options of a command
    kind: Annotated[str, typer.Argument(help="network.refresh, interface.plug, ...")],
    target: Annotated[str, typer.Argument(help="NETWORK, NETWORK/INTERFACE or NETWORK/ADDRESS.")],
    queue: Queue = USER_FACING_QUEUE,
    needs: Annotated[
        list[int] | None, typer.Option(help="An operation that must have succeeded first; repeatable.")
    ] = None,
    after: Annotated[
        list[int] | None, typer.Option(help="An operation that must have ended first; repeatable.")
    ] = None,
    wait: Wait = 0.0,
    story: Correlation = "",
    as_json: JsonFlag = False,
) -> None:
    """Make things so as they are wanted now: again after a failure, or after somebody changed a node by hand."""
    submit_and_wait(
        lambda context: (
            context.operations.submit(kind, target, queue=queue, needs=needs or (), after=after or ()),
            {},
        ),
        wait_s=wait,
        as_json=as_json,
        story=story,
    )


@app.command()
def wait(
    operation: Id,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most.")] = 30.0,
    as_json: JsonFlag = False,
) -> None:
    """Wait for the end of an operation. Exit 0: it succeeded; 3: not ended in time; 4: it failed, or was cancelled."""
    row = current().operations.wait(operation, timeout)
    if as_json:
        print_json(row)
    else:
        answer = {"operation": operation, "is_new": True, **{name: row[name] for name in ("state", "error", "took_s")}}
        console.print(operation_views.submitted(answer), soft_wrap=True, highlight=False)
    exit_as(row["state"])


@app.command()
def show(operation: Id, as_json: JsonFlag = False) -> None:
    """The timeline of an operation: when each step was queued, parked and run, and by whom."""
    row = current().operations.show_with_runs(operation)
    if as_json:
        print_json(row)
    else:
        console.print(operation_views.operation(row), highlight=False)


@app.command("list")
def list_operations(
    state: Annotated[OperationState | None, typer.Option(help="Only those in this state.")] = None,
    target: Annotated[str | None, typer.Option(help="Only those on this target, or on what is under it.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only those of this kind.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: JsonFlag = False,
) -> None:
    """Operations, newest first."""
    if kind is not None:
        check_kind(kind)
    rows = store.recent(current().db, limit=limit, state=state, target=target, kind=kind)
    if as_json:
        print_json(rows)
    else:
        console.print(operation_views.operations(rows), highlight=False)


@app.command()
def cancel(operation: Id, as_json: JsonFlag = False) -> None:
    """End an operation: no step of it begins any more. Exit 3 when it had ended."""
    cancelled = current().operations.cancel(operation)
    if as_json:
        print_json({"operation": operation, "cancelled": cancelled})
    else:
        text = "cancelled" if cancelled else "had ended; nothing changed"
        console.print(f"operation {operation} {text}", style=None if cancelled else "yellow", highlight=False)
    if not cancelled:
        raise typer.Exit(NOT_NOW)
