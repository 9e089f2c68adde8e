"""One run from nothing to nothing: the data set, the stack, networks, the ramp, what is remembered, the stack's end."""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from config.flower_files import FLOWER_USER, password_file
from demo.dataset import ensure_dataset
from demo.doors import PROFILE
from demo.journal import TimedDatabase
from demo.machine import machine_facts
from demo.network.play import play_networks
from demo.processes import Processes, end_leftovers
from demo.queries import right_answers
from demo.ramp import TENANTS, Ramp
from demo.record import Phase, Recording
from demo.remembered import remembered
from demo.sampler import Sampler
from demo.sandbox import celery_client, pool_note, require_room
from demo.stopping import StopSignals
from demo.tenant import Stage
from tasks.context import Context
from tasks.draining import empty_pool
from tasks.engines import wipe
from tasks.services import services
from tasks.up import Stack

if TYPE_CHECKING:
    from pathlib import Path

    from config.settings import Settings
    from demo.journal import Journal
    from demo.network.ground import Ground
    from demo.screen import Screen

READY_S_MAX: Final = 60.0
# Each tenant has a connection of its own, as it would in a process of its own; some are for what surrounds them.
CONNECTIONS: Final = TENANTS + 10


def record(settings: Settings, ground: Ground, screen: Screen, journal: Journal) -> Recording:
    """Play everything on a deployment of its own. Afterwards nothing of it is left, however it ends.

    Raises:
        KeyboardInterrupt: a stop signal came.
        StokerError: it could not be started, or a part of it did not come up.
    """
    began = datetime.now(UTC)
    context = Context(settings, celery_client(settings))
    require_room(context)
    note = pool_note(settings)
    end_leftovers(context.launcher, note)
    wipe(settings.locations)
    screen.phase("data set")
    answers = right_answers(ensure_dataset())
    context.db = TimedDatabase(settings.database_dsn, journal, connections=CONNECTIONS)
    machine = machine_facts()
    processes = Processes()
    stage = Stage(journal, answers, threading.Event())

    def prepare() -> None:
        _log_into(settings.locations.logs / "demo.log")
        context.prepare()
        note.write_text(context.pool_id, encoding="ascii")

    def on_stop() -> None:
        stage.over.set()
        processes.look()
        context.operations.close()
        empty_pool(context)
        if not context.launcher.list(context.pool_id):
            note.unlink()
        context.db.close()

    stacks: list[Stack] = []  # the one, once there is a place for it

    def force() -> None:
        for one in stacks:
            one.force()

    screen.phase("engines and services start")
    with StopSignals(force) as signals, ExitStack() as down:
        site = down.enter_context(ground.opened())
        down.callback(lambda: processes.remember(site.pids()))
        stack = Stack(
            settings,
            prepare=prepare,
            on_stop=on_stop,
            services=site.services(services(settings), settings),
            say=screen.say,
            durable=False,
        )
        stacks.append(stack)
        down.enter_context(stack)
        kind = settings.profiles[PROFILE]
        with signals.leaving(), Sampler(settings.database_dsn, kind.name, journal, screen.show) as sampler:
            screen.note(f"Flower: http://{settings.flower.address}:{settings.flower.port} as user {FLOWER_USER},")
            screen.note(f"  password in {password_file(settings.locations)}, while this runs")
            screen.note(ground.words)
            stack.wait_ready(READY_S_MAX)
            network = play_networks(context, ground, site, stage.over, screen.phase)
            ramp = Ramp(context, kind, stage, sampler, screen.phase)
            burst, back_at_floor = ramp.run()
            processes.look()
            history = remembered(context.db)
            stopping = Phase("stop", journal.now_s())
        screen.phase("stop")
    left = processes.left(context.launcher, context.pool_id)
    return Recording(
        tenants=TENANTS,
        floor=kind.floor,
        began=began.isoformat(timespec="seconds"),
        wall_s=journal.now_s(),
        burst_s=burst.at_s,
        burst_at=burst.at,
        back_at_floor=back_at_floor,
        left_processes=len(left),
        phases=[*ramp.phases, stopping],
        samples=sampler.samples,
        seen=journal.seen,
        history=history,
        machine=machine,
        network=network,
    )


def _log_into(file: Path) -> None:
    """Have what this process logs stand beside what the services do, and not across the screen."""
    logging.getLogger().addHandler(logging.FileHandler(file))
