"""`stoker network`: networks, the interfaces in them, and the addresses by which these are reached from outside."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from config.names import USER_FACING_QUEUE, USER_WAITING_QUEUE
from scheduler.store.operations import Operation
from tasks import network_looks
from tasks.cli import network_views
from tasks.cli.output import JsonFlag, console, print_json
from tasks.cli.submitting import Correlation, Queue, Wait, submit
from tasks.context import Context, current

app = typer.Typer(no_args_is_help=True, help="Create, plug, see and delete networks. Each change is an operation.")
floating_app = typer.Typer(no_args_is_help=True, help="Addresses of the underlay that stand for an interface.")
app.add_typer(floating_app, name="floating")

Network = Annotated[str, typer.Argument(metavar="NETWORK")]
Interface = Annotated[str, typer.Argument(metavar="INTERFACE", help="The instance's name in the network's DNS.")]


@app.command()
def create(  # noqa: PLR0917 - the options of a command
    name: Network,
    prefix: Annotated[str, typer.Argument(help="Its addresses: 10.1.0.0/24.")],
    node: Annotated[str, typer.Option(help="Where its gateway, DHCP and DNS are; the first of [network.nodes].")] = "",
    queue: Queue = USER_FACING_QUEUE,
    wait: Wait = 0.0,
    story: Correlation = "",
    as_json: JsonFlag = False,
) -> None:
    """Want a network."""
    submit(
        lambda context: (context.networks.create(name, prefix, node=node, queue=queue), {}),
        wait_s=wait,
        as_json=as_json,
        story=story,
    )


@app.command()
def show(
    name: Annotated[str | None, typer.Argument(metavar="[NETWORK]", help="Only this one.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Networks as they should be, and what differs where this machine can see it."""
    found = network_looks.look(current(), name)
    if as_json:
        print_json(found)
    else:
        console.print(network_views.networks(found), highlight=False)


@app.command()
def delete(
    name: Network,
    queue: Queue = USER_FACING_QUEUE,
    wait: Wait = 0.0,
    story: Correlation = "",
    as_json: JsonFlag = False,
) -> None:
    """Want a network gone. Refused while it has interfaces."""
    submit(lambda context: (context.networks.delete(name, queue=queue), {}), wait_s=wait, as_json=as_json, story=story)


@app.command()
def plug(  # noqa: PLR0913, PLR0917 - the options of a command
    network: Network,
    interface: Interface,
    node: Annotated[str, typer.Option(help="Where the instance runs.")],
    namespace: Annotated[
        str, typer.Option(help="The network namespace that is the instance; by default its name.")
    ] = "",
    address: Annotated[str, typer.Option(help="Its address; by default the first that is free.")] = "",
    mac: Annotated[str, typer.Option(help="Its MAC, one of Stoker's own; by default derived from its name.")] = "",
    queue: Queue = USER_WAITING_QUEUE,
    wait: Wait = 0.0,
    story: Correlation = "",
    as_json: JsonFlag = False,
) -> None:
    """Want an instance in a network; prints the address and MAC that DHCP will give it."""

    def ask(context: Context) -> tuple[Operation, dict[str, Any]]:
        operation, row = context.networks.plug(
            network, interface, node, namespace=namespace, address=address, mac=mac, queue=queue
        )
        return operation, {"address": row["address"], "mac": row["mac"]}

    submit(ask, wait_s=wait, as_json=as_json, story=story)


@app.command()
def unplug(
    network: Network,
    interface: Interface,
    queue: Queue = USER_FACING_QUEUE,
    wait: Wait = 0.0,
    story: Correlation = "",
    as_json: JsonFlag = False,
) -> None:
    """Want an instance out of a network, and its floating address free."""
    submit(
        lambda context: (context.networks.unplug(network, interface, queue=queue), {}),
        wait_s=wait,
        as_json=as_json,
        story=story,
    )


@floating_app.command("add")
def add_floating(  # noqa: PLR0917 - the options of a command
    network: Network,
    interface: Interface,
    address: Annotated[str, typer.Argument(help="One that the underlay routes to the network's gateway node.")],
    queue: Queue = USER_WAITING_QUEUE,
    wait: Wait = 0.0,
    story: Correlation = "",
    as_json: JsonFlag = False,
) -> None:
    """Want an address of the underlay to reach an instance."""
    submit(
        lambda context: (context.networks.add_floating(network, interface, address, queue=queue), {}),
        wait_s=wait,
        as_json=as_json,
        story=story,
    )


@floating_app.command("remove")
def remove_floating(
    network: Network,
    address: Annotated[str, typer.Argument(help="As it was added.")],
    queue: Queue = USER_FACING_QUEUE,
    wait: Wait = 0.0,
    story: Correlation = "",
    as_json: JsonFlag = False,
) -> None:
    """Want it to reach nobody."""
    submit(
        lambda context: (context.networks.remove_floating(network, address, queue=queue), {}),
        wait_s=wait,
        as_json=as_json,
        story=story,
    )
