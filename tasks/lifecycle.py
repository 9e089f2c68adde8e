"""What follows when a worker becomes ready, fails to, or ends: its row, its profile's back-off, and who was waiting."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from scheduler.core.states import WorkerState
from scheduler.store import launches, reaping
from tasks import correlation
from tasks.launchers.base import EXITED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from config.profile import Profile
    from scheduler.store.launches import Launched
    from tasks.context import Context
    from tasks.launchers.base import Outcome, Placement

log = structlog.get_logger(__name__)


def became_ready(
    context: Context, known: Launched, kind: Profile, place: Placement | None, *, unschedulable: bool
) -> WorkerState | None:
    """The worker answers: park it or hand it to whoever waits, and wake that caller. What it became.

    Still SPAWNING: its node is closed, and nobody may have it. None: it was not spawning any more.
    """
    if place is not None and place.endpoint is not None and place.node is not None:
        launches.located(
            context.db, known.worker_id, place.handle, place.endpoint, place.node, unschedulable=unschedulable
        )
    state, grant = launches.ready(context.db, known.worker_id, context.pool.binding_lease(kind))
    if grant is not None:
        context.pool.wake([grant])
    if state is WorkerState.DRAINING:
        context.request_stop([known.worker_id])
    return state


def give_up(context: Context, worker_id: int, reason: str, *, gone: bool, outcome: Outcome) -> None:
    """End a spawn that came to nothing, back its profile off, and stop what may still run of it."""
    backoff = context.settings.backoff
    after = launches.failed(
        context.db,
        worker_id,
        reason[:500],
        gone=gone,
        first=timedelta(seconds=backoff.first_s),
        longest=timedelta(seconds=backoff.max_s),
        outcome=outcome.name,
        pace=outcome.pace,
    )
    if after is not None:
        log.warning("spawn failed", worker=worker_id, outcome=outcome.name, reason=reason[:500])
    if after is WorkerState.DRAINING:
        context.request_stop([worker_id])


def cordons_changed(context: Context, marks: Mapping[str, bool]) -> None:
    """The platform has closed nodes, or opened them: their workers are offered no more, or again to who waits."""
    changed = reaping.follow_platform(context.db, marks)
    for node, closed in changed.items():
        log.info("the platform has closed a node" if closed else "the platform has opened a node", node=node)
    if not all(changed.values()):
        context.pool.offer([kind.canonical for kind in context.settings.profiles.values()])


def ended(context: Context, known: Launched, reason: str, outcome: Outcome = EXITED) -> bool:
    """The worker's process is gone: end its row, refill its profile, and offer its tenant's room to who waits."""
    # Changes nothing unless it was still spawning.
    give_up(context, known.worker_id, reason, gone=True, outcome=outcome)
    end = launches.gone(context.db, known.worker_id, known.handle, reason)
    if end is None:
        return False
    if end.state is WorkerState.LOST:
        with correlation.within(end.correlation_id):
            log.warning("worker lost", worker=known.worker_id, profile=end.profile, reason=reason)
        if end.ready_s is None or end.ready_s > context.settings.ticket_ttl_s:
            context.request_reconcile(end.profile)
        # else it died as soon as it was ready, as the next one may: replaced by the tick, a crash loop is one a period.
    if end.tenant is not None:
        context.pool.offer_to([end.tenant])
    return True
