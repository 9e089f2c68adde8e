"""Claims for any Celery client: `app.send_task("pool.claim", ["acme", "duckdb"], {"wait_s": 5})`. And a slot's launch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from celery import shared_task

from config.names import CLAIM_TASK, RELEASE_TASK, RENEW_TASK, SPAWN_TASK, STOP_TASK
from scheduler.errors import Refused
from tasks import spawning
from tasks.context import current
from tasks.inputs import answering, bounded
from tasks.starts import WaitingTask

if TYPE_CHECKING:
    from celery import Task

log = structlog.get_logger(__name__)


# No representation of the result: Flower, events and logs would show the claim's token.
@shared_task(base=WaitingTask, bind=True, name=CLAIM_TASK, resultrepr_maxsize=0)
@answering
def claim(self: Task, tenant: str, profile: str, wait_s: float = 0.0, waiter: str = "") -> dict[str, Any]:
    """Claim a worker: `{"outcome": "held", "endpoint", "token", ...}`, or "miss" or "refused" with a reason."""
    pool, own = current().pool, self.request.id or ""
    try:
        return pool.claim(str(tenant), str(profile), wait_s=float(wait_s), waiter=str(waiter), task_id=own).as_json()
    except (Refused, ValueError, TypeError) as refusal:
        return {"outcome": "refused", "tenant": tenant, "profile": profile, "reason": str(refusal)}


@shared_task(name=RENEW_TASK, throws=(Refused,))
@bounded
def renew(tenant: str, worker_id: int, epoch: int, profile: str) -> bool:
    """Keep a claim for another lease; False when it has ended."""
    return current().pool.renew(tenant, worker_id, epoch, profile)


@shared_task(name=RELEASE_TASK, throws=(Refused,))
@bounded
def release(tenant: str, worker_id: int, epoch: int) -> str | None:
    """End a claim; what its worker became, or None when it was not this claim's any more."""
    return current().pool.release(tenant, worker_id, epoch)


@shared_task(name=SPAWN_TASK, ignore_result=True)
def spawn(worker_id: int, attempt: int) -> None:
    """Launch one slot and return: its readiness is watched elsewhere, so that no spawn waits for another."""
    spawning.launch(current(), worker_id, attempt)


@shared_task(name=STOP_TASK, ignore_result=True)
def stop(worker_id: int) -> None:
    """Begin to stop a worker that drains."""
    spawning.stop(current(), worker_id)
