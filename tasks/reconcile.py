"""The reconcile tick: one statement when nothing is missing; else the deficit of each profile in a transaction of its own."""

from __future__ import annotations

import dataclasses
import functools
import math
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from scheduler.core.capacity import CapacityPlan, CapacitySnapshot, plan_capacity
from scheduler.store import slots

if TYPE_CHECKING:
    from config.profile import Profile
    from scheduler.store.slots import Seen
    from tasks.context import Context

log = structlog.get_logger(__name__)


def run(context: Context, only: str | None = None) -> dict[str, int]:
    """Slots created, by profile; of one profile, or of all."""
    seen = slots.look(context.db)
    if seen is None:
        return {}
    lease = timedelta(seconds=context.settings.timeouts.launch_lease_s)
    created: dict[str, int] = {}
    for name, snapshot in seen.profiles.items():
        kind = context.settings.profile(name)
        if kind is None or (only is not None and name != only):
            continue
        if kind.max_workers == 0:
            _say_unbounded(kind.name)
        plan = functools.partial(_plan, context, kind)
        if plan(snapshot, seen).create:
            decided, made = slots.create(context.db, name, plan, lease)
            context.request_spawns(made)
            created[name] = len(made)
            log.info(
                "slots created", profile=name, created=len(made), deficit=decided.deficit, clipped_by=decided.clipped_by
            )
        if snapshot.demand and snapshot.idle:
            # A match that lost its moment (a crash between two statements, a raised cap) is made here.
            context.pool.offer([name])
    return created


def _plan(context: Context, kind: Profile, snapshot: CapacitySnapshot, seen: Seen) -> CapacityPlan:
    snapshot = dataclasses.replace(snapshot, machine_room=_machine_room(context, kind, seen))
    return plan_capacity(snapshot, kind.floor, seen.now, at_most=context.settings.bounds.slots_per_tick)


def _machine_room(context: Context, kind: Profile, seen: Seen) -> int | None:
    """Workers of this profile that fit beside all that live, where the launcher's machine is the bound."""
    capacity = context.launcher.capacity(kind)
    if capacity is None:
        return None
    taken = 0
    for name, live in seen.live.items():
        other = context.settings.profile(name)
        taken += live * (other.memory if other else kind.memory)
    return capacity - math.ceil(taken / kind.memory)


@functools.cache
def _say_unbounded(family: str) -> None:
    """Once a process: an unset cap is a decision, and who reads the log should know that nobody forgot it."""
    log.info("max_workers is 0: what the workers run on is the ceiling", profile=family)
