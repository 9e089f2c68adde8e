"""The launch of a slot and the stop of a worker, as far as a task goes: neither waits for a worker, the keeper does."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from scheduler.core.states import WorkerState
from scheduler.store import launches
from tasks import correlation, lifecycle
from tasks.keeper import running_keeper
from tasks.launchers.base import NO_PROFILE, LaunchError, LaunchSpec, LaunchUnknown

if TYPE_CHECKING:
    from scheduler.store.launches import LaunchOrder
    from tasks.context import Context

log = structlog.get_logger(__name__)


def launch(context: Context, worker_id: int, attempt: int) -> None:
    """Launch the slot, or adopt what an earlier attempt launched, and hand it to the keeper."""
    settings, db = context.settings, context.db
    order = launches.take_order(db, worker_id, attempt, timedelta(seconds=settings.timeouts.launch_lease_s))
    if order is not None:
        with correlation.within(order.correlation_id):
            _launch(context, order)


def _launch(context: Context, order: LaunchOrder) -> None:
    settings, db, launcher, worker_id = context.settings, context.db, context.launcher, order.worker_id
    kind = settings.profile(order.profile)
    if kind is None:
        lifecycle.give_up(context, worker_id, NO_PROFILE.name, gone=True, outcome=NO_PROFILE)
        return
    try:
        # Only a second attempt can find something: the first one's answer was lost, its worker may well run.
        place = launcher.find(context.pool_id, worker_id) if order.attempt > 1 else None
        place = place or launcher.launch(LaunchSpec(worker_id, context.pool_id, kind, order.activation_key))
    except LaunchUnknown as error:
        # It may be there. When this launch's lease is over the sweep publishes the slot again, and the next one finds it.
        log.warning("no answer to a launch", worker=worker_id, profile=order.profile, error=str(error))
        return
    except LaunchError as error:
        log.warning("launch failed", worker=worker_id, profile=order.profile, error=str(error))
        lifecycle.give_up(context, worker_id, f"{error.outcome.name}: {error}", gone=True, outcome=error.outcome)
        return
    if not launches.placed(db, order, place.handle, place.endpoint, place.node):
        known = launches.look_up(db, worker_id)
        if known is None or known.handle != place.handle:
            # Overtaken, or drained meanwhile: this worker is nobody's.
            asyncio.run(launcher.stop(place.handle, context.pool_id, worker_id, 0.0))
        return
    known = launches.look_up(db, worker_id)
    if known is not None and (keeper := running_keeper()) is not None:
        keeper.watch(known)


def stop(context: Context, worker_id: int) -> None:
    """Have the keeper stop a draining worker; one of another process finds it by itself."""
    known = launches.look_up(context.db, worker_id)
    if known is not None and known.state is WorkerState.DRAINING and (keeper := running_keeper()) is not None:
        with correlation.within(known.correlation_id):
            log.info("stopping", worker=worker_id)
        keeper.watch(known)
