"""What a client of the operations' chaos does, in a process of its own: change what is wanted, and submit what makes it so."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.names import OPERATION_QUEUES
from scheduler.errors import Temporary
from scheduler.store.operations import Operation
from tasks.celery_app import make_app
from tasks.context import Context
from tests.support import profiles

INTERFACES = 3  # of each client, on each network
PLUGS, FLOATS, COMES_AFTER = 0.5, 0.1, 0.03
WAITS = 0.002  # a few wait for their operation, as people do


@dataclass
class OperationDiary:
    """What one client did."""

    submitted: int = 0
    as_they_were: int = 0  # answered with an operation that was pending
    temporary: int = 0
    wakes_ms: list[float] = field(default_factory=list)
    unended: list[int] = field(default_factory=list)  # waited for, and not ended in time


def submit(  # noqa: PLR0917 - what a process is given
    config: str, engines: dict[str, Any], seed: int, client: int, networks: int, operations: int, seconds: float
) -> OperationDiary:
    """Submit so many operations, spread over so many seconds."""
    dice = random.Random(seed)
    settings = profiles.settings_of(Path(config), **engines)
    app = make_app("stoker-chaos", settings, set_as_current=False)
    context = Context(settings, app)
    diary, began, pause = OperationDiary(), time.monotonic(), threading.Event()
    plugged: set[tuple[int, int]] = set()
    floating: set[tuple[int, int]] = set()
    nodes = list(settings.network.nodes)
    last = 0
    while diary.submitted < operations:
        network, interface = dice.randrange(networks), dice.randrange(INTERFACES)
        queue, choice, mine = dice.choice(OPERATION_QUEUES), dice.random(), (network, interface)
        blue, name = f"net{network}", f"c{client}-{interface}"
        address = f"203.{client}.{network}.{interface + 1}"
        try:
            if choice < PLUGS and mine in plugged:
                operation: Operation = context.networks.unplug(blue, name, queue=queue)
                plugged.discard(mine)
                floating.discard(mine)
            elif choice < PLUGS:
                operation, _ = context.networks.plug(blue, name, dice.choice(nodes), queue=queue)
                plugged.add(mine)
            elif choice < PLUGS + FLOATS and mine in floating:
                operation = context.networks.remove_floating(blue, address, queue=queue)
                floating.discard(mine)
            elif choice < PLUGS + FLOATS and mine in plugged:
                operation = context.networks.add_floating(blue, name, address, queue=queue)
                floating.add(mine)
            else:
                after = [last] if last and dice.random() < COMES_AFTER else []
                operation = context.operations.submit("network.refresh", blue, queue=queue, after=after)
            last = operation.id
            diary.submitted += 1
            diary.as_they_were += not operation.is_new
            if dice.random() < WAITS:
                _wait(context, operation, diary)
        except Temporary:
            diary.temporary += 1
            pause.wait(0.1)
        ahead_s = began + diary.submitted * seconds / operations - time.monotonic()
        if ahead_s > 0:
            pause.wait(ahead_s)
    context.close()
    return diary


def _wait(context: Context, operation: Operation, diary: OperationDiary) -> None:
    row = context.operations.wait(operation.id, 100.0)
    if row["ended_at"] is None:
        diary.unended.append(operation.id)
