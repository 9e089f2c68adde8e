"""The sweep tick: what time undoes, and the comparison of rows with what runs (I11). Every step is bounded and repeatable."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

import redis
import structlog
from kombu.exceptions import OperationalError

from scheduler.core.audit import Found, is_claimed, plan_audit
from scheduler.redis.connection import connect
from scheduler.redis.queues import policy
from scheduler.store import beat, launches, operations, slots, sweeping
from tasks import lifecycle
from tasks.coalescing.repair import repair
from tasks.launchers.base import STUCK, LaunchError

if TYPE_CHECKING:
    from tasks.context import Context
    from tasks.launchers.base import Running

log = structlog.get_logger(__name__)


def run(context: Context) -> dict[str, int]:
    """One sweep; what it found, by kind."""
    settings, db = context.settings, context.db
    batch = settings.bounds.sweep_batch
    expired = sweeping.expire(db, batch)
    context.request_stop(expired.draining)
    found = {"expired": len(expired.draining), "dead_tickets": sweeping.drop_dead_tickets(db, batch)}
    if expired.tenants:
        context.pool.offer_to(expired.tenants)
    lost = slots.unlaunched(db, timedelta(seconds=settings.timeouts.launch_lease_s), batch)
    context.request_spawns(lost)
    found["republished"] = len(lost)
    stuck = sweeping.stuck_spawns(db, timedelta(seconds=settings.timeouts.stuck_spawning_s), batch)
    for worker_id in stuck:
        lifecycle.give_up(context, worker_id, STUCK.name, gone=False, outcome=STUCK)
    found["stuck"] = len(stuck)
    found["never_launched"] = sweeping.retire_never_launched(db, batch)
    try:
        found |= _audit(context)
        found["headroom"] = context.launcher.keep_room(context.pool_id, settings.profiles.values())
    except LaunchError as error:
        # That the platform does not answer is not an answer: nobody is a ghost for it.
        log.warning("rows and workers not compared; the next tick does it", error=str(error))
    found |= _operations(context)
    found |= _queues(context)
    keep = timedelta(seconds=settings.history.keep_s)
    found["pruned"] = sum(one.prune(db, keep, batch) for one in (sweeping, operations, beat))
    if any(found.values()):
        log.info("swept", **{what: count for what, count in found.items() if count})
    return found


def _operations(context: Context) -> dict[str, int]:
    """Runs that died, messages that were lost, steps that Redis has forgotten. Redis first: what it knows is not published."""
    settings = context.settings
    try:
        repaired = repair(context.app, settings.bounds.sweep_batch)
        found = context.operations.sweep(settings.operations.look_s, settings.bounds.sweep_batch)
    except (redis.RedisError, OperationalError) as error:
        log.warning("operations not swept; the next tick does it", error=str(error))
        return {}
    died = {"dead_runs": repaired.died, "lost_messages": repaired.republished, "missed_lanes": repaired.granted}
    return {**died, "heirs": len(repaired.heirs), **found}


def _queues(context: Context) -> dict[str, int]:
    """What operators have changed of the queues, where workers read it: after a flush, or a change that Redis did not hear."""
    try:
        with closing(connect(context.settings.redis_client_url)) as client:
            return {"queue_policies": int(policy.publish(context.db, client))}
    except redis.RedisError as error:
        log.warning("policies of the queues not compared; the next tick does it", error=str(error))
        return {}


def _audit(context: Context) -> dict[str, int]:
    """Compare, act, and look again before anything is killed. What runs is listed first: a row written since is no ghost."""
    launcher, db = context.launcher, context.db
    running = {sweeping.canonical(w.handle): w for w in launcher.list(context.pool_id)}
    rows = sweeping.live_rows(db)
    found = [Found(worker.worker_id, handle, worker.age_s) for handle, worker in running.items()]
    plan = plan_audit(rows, found, grace_s=context.settings.timeouts.orphan_grace_s)
    ghosts = 0
    for ghost in plan.ghosts:
        known = launches.look_up(db, ghost.worker_id)
        if known is not None and launcher.owns(known.handle) and not launcher.alive(known.handle):
            ghosts += lifecycle.ended(context, known, "vanished")
    unclaimed = [
        running[orphan.handle]
        for orphan in plan.orphans[: context.settings.bounds.sweep_batch]
        if not is_claimed(sweeping.live_rows(db, orphan.worker_id).get(orphan.worker_id), orphan)
    ]
    return {"ghosts": ghosts, "orphans": asyncio.run(_stop_all(context, unclaimed))}


async def _stop_all(context: Context, unclaimed: list[Running]) -> int:
    """Stop workers, all at once: each takes its grace, and the tick has other work to do."""
    for one in unclaimed:
        log.warning("stopping a worker that no row claims", worker=one.worker_id)
    stops = (context.launcher.stop(one.handle, context.pool_id, one.worker_id, 0.0) for one in unclaimed)
    ends = await asyncio.gather(*stops, return_exceptions=True)
    for one, end in zip(unclaimed, ends, strict=True):
        if isinstance(end, BaseException):
            log.warning("it did not stop; the next tick finds it", worker=one.worker_id, error=str(end))
    return len(unclaimed)
