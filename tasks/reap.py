"""The reap tick (I9): slower than reconcile on purpose, so that a pool grows at once and shrinks with thought."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from scheduler.core.reap import plan_reap
from scheduler.store import reaping, slots

if TYPE_CHECKING:
    from tasks.context import Context

log = structlog.get_logger(__name__)


def run(context: Context) -> int:
    """Drain what was idle for too long, profile by profile; workers drained."""
    drained: list[int] = []
    at_most = context.settings.bounds.reap_per_tick
    seen = slots.look(context.db)
    for kind in context.settings.profiles.values():
        # Who asked without waiting may come back for its worker: what is demanded is no surplus, or this tick would drain
        # what the next reconcile creates again.
        demand = seen.profiles[kind.canonical].demand if seen and kind.canonical in seen.profiles else 0
        timeout = timedelta(seconds=kind.idle_timeout_s)
        drained += _reap(context, kind.canonical, kind.floor + demand, timeout, at_most, "idle_timeout")
    for name in reaping.stale_profiles(context.db):
        # Nobody can claim these any more: the settings changed what the profile is, or an operator closed it.
        drained += _reap(context, name, 0, timedelta(0), at_most, "profile_closed")
    context.request_stop(drained)
    return len(drained)


def _reap(context: Context, profile: str, keep: int, timeout: timedelta, at_most: int, reason: str) -> list[int]:
    now, idle = reaping.idle_workers(context.db, profile)
    victims = plan_reap(idle, keep, timeout, now, at_most=at_most) if now is not None else []
    if not victims:
        return []
    drained = reaping.drain_idle(context.db, profile, victims, keep, timeout, reason)
    log.info("idle workers drained", profile=profile, planned=len(victims), drained=len(drained), reason=reason)
    return drained
