"""Empties the pool: what an operator drains by name, and what `stoker up` does last so that no worker outlives it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from scheduler.errors import Refused
from scheduler.store import launches, reaping, sweeping

if TYPE_CHECKING:
    from tasks.context import Context
    from tasks.launchers.base import Running

log = structlog.get_logger(__name__)

_ROUNDS: Final = 5


def drain(context: Context, *, worker: int | None, profile: str | None, node: str | None, undo: bool) -> list[int]:
    """Drain a worker, a profile or a node: serve no new claims from it, and stop what serves nobody. Workers drained.

    A claimed worker of a drained profile or node is let go by its tenant and then stopped. `undo` opens it again.

    Raises:
        Refused: not exactly one of the three was named, or there is no such thing.
    """
    if sum(named is not None for named in (worker, profile, node)) != 1:
        what = "drain one thing at a time"
        raise Refused(what, expected="one of a worker, a profile or a node", remedy="name exactly one")
    if profile is not None:
        kind = context.settings.profile(profile)
        if kind is None or not reaping.set_draining(context.db, kind.canonical, draining=not undo):
            what = f"no profile {profile!r} is in force"
            raise Refused(
                what, expected=f"one of {', '.join(sorted(context.settings.profiles))}", remedy="name one of these"
            )
        profile = kind.canonical
    if node is not None and not reaping.cordon(context.db, node, cordoned=not undo):
        what = f"no node {node!r}"
        raise Refused(what, expected="a node that has live workers", remedy="see `stoker pool status`")
    if undo:
        if worker is not None:
            what = f"worker {worker} cannot be undrained"
            raise Refused(what, expected="a profile or a node", remedy="claim another; the floor is refilled")
        context.pool.offer(
            [profile] if profile is not None else [k.canonical for k in context.settings.profiles.values()]
        )
        return []
    drained = reaping.drain(context.db, worker=worker, profile=profile, node=node, reason="drained_by_operator")
    if worker is not None and not drained:
        what = f"no live worker {worker}"
        raise Refused(what, expected="a worker that is not draining yet", remedy="see `stoker pool workers`")
    context.request_stop(drained)
    return drained


def empty_pool(context: Context) -> int:
    """Stop every worker of this installation here and now, without Celery; workers stopped.

    For the end of a stack, when no Celery worker is left to do it. Rows follow the processes, so the next start finds
    nothing that claims to live.
    """
    stopped = 0
    for _ in range(_ROUNDS):
        reaping.drain_all(context.db, "stack_stopped")
        running = context.launcher.list(context.pool_id)
        if running:
            asyncio.run(_stop_all(context, running))
            stopped += len(running)
        for known in launches.all_launched(context.db):
            if context.launcher.owns(known.handle) and not context.launcher.alive(known.handle):
                launches.gone(context.db, known.worker_id, known.handle, "stack_stopped")
        if not running:
            break
    sweeping.retire_unlaunched_now(context.db)
    return stopped


async def _stop_all(context: Context, running: list[Running]) -> None:
    grace_s = max((kind.stop_grace_s for kind in context.settings.profiles.values()), default=0.0)
    stops = (context.launcher.stop(worker.handle, context.pool_id, worker.worker_id, grace_s) for worker in running)
    for outcome in await asyncio.gather(*stops, return_exceptions=True):
        if isinstance(outcome, BaseException):
            log.warning("a worker did not stop", error=str(outcome))
