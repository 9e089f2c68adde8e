"""What follows when a worker becomes ready, fails to, or ends: its row, its profile's back-off, and who was waiting."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from scheduler.core.states import WorkerState
from scheduler.store import launches
from tasks import correlation

if TYPE_CHECKING:
    from config.profile import Profile
    from scheduler.store.launches import Launched
    from tasks.context import Context

log = structlog.get_logger(__name__)


def became_ready(context: Context, known: Launched, kind: Profile) -> None:
    """The worker answers: park it or hand it to whoever waits, and wake that caller."""
    state, grant = launches.ready(context.db, known.worker_id, context.pool.binding_lease(kind))
    if grant is not None:
        context.pool.wake([grant])
    if state is WorkerState.DRAINING:
        context.request_stop([known.worker_id])


def give_up(context: Context, worker_id: int, reason: str, *, gone: bool) -> None:
    """End a spawn that came to nothing, back its profile off, and stop what may still run of it."""
    backoff = context.settings.backoff
    after = launches.failed(
        context.db,
        worker_id,
        reason[:500],
        gone=gone,
        first=timedelta(seconds=backoff.first_s),
        longest=timedelta(seconds=backoff.max_s),
    )
    if after is not None:
        log.warning("spawn failed", worker=worker_id, reason=reason[:500])
    if after is WorkerState.DRAINING:
        context.request_stop([worker_id])


def ended(context: Context, known: Launched, reason: str) -> bool:
    """The worker's process is gone: end its row, refill its profile, and offer its tenant's room to who waits."""
    give_up(context, known.worker_id, reason, gone=True)  # changes nothing unless it was still spawning
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
