"""What all commands share that submit an operation: their options, and how they wait for its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from config.names import OPERATION_QUEUES
from scheduler.core.operations import OperationState
from scheduler.store.operations import Operation
from tasks import correlation
from tasks.cli import operation_views
from tasks.cli.output import ENDED_BADLY, NOT_NOW, console, print_json
from tasks.context import Context, current

Wait = Annotated[
    float,
    typer.Option(help="Seconds to wait for its end. Exit 0: succeeded; 3: not ended in time; 4: failed or cancelled."),
]
Correlation = Annotated[
    str,
    typer.Option("--correlation", metavar="ID", help="What the story that begins here is called; by default a new id."),
]
Queue = Annotated[str, typer.Option(help=f"How urgent it is: {', '.join(OPERATION_QUEUES)}.")]


def submit(
    ask: Callable[[Context], tuple[Operation, dict[str, Any]]], *, wait_s: float, as_json: bool, story: str = ""
) -> None:
    """Submit by `ask`, which also says what else there is to tell; wait; print; exit."""
    context = current()
    # Before anything is changed: a command that is refused has done nothing.
    context.operations.check_wait(wait_s)
    with correlation.within(correlation.chosen(story)):
        operation, more = ask(context)
    answer = {**operation.as_json(), **more}
    if wait_s:
        row = context.operations.wait(operation.id, wait_s)
        answer |= {"state": row["state"], "error": row["error"], "took_s": row["took_s"]}
    if as_json:
        print_json(answer)
    else:
        console.print(operation_views.submitted(answer), soft_wrap=True, highlight=False)
    if wait_s:
        exit_as(answer["state"])


def exit_as(state: str) -> None:
    """Exit as the state of an operation that was waited for says; return when it has succeeded."""
    if state in {OperationState.FAILED, OperationState.CANCELLED}:
        raise typer.Exit(ENDED_BADLY)
    if state != OperationState.SUCCEEDED:
        raise typer.Exit(NOT_NOW)
