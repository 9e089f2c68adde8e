"""The ticks of Celery beat on the control queue: each plans, acts and returns; none waits for a worker (I7).

They coalesce, so that they cannot pile up: a tick that is due while one is queued is served by that one. They have no lane:
one that hangs, or dies with its worker, keeps no other from running. Only the sweep is a plain task, which expires when the
next is due: it repairs what coalesces, and must not wait for a lost message of its own.
"""

from __future__ import annotations

from celery import shared_task

from config.names import REAP_TASK, RECONCILE_TASK, SWEEP_TASK
from tasks import reap as reaping
from tasks import reconcile as reconciling
from tasks import sweep as sweeping
from tasks.coalescing import CoalescingTask
from tasks.context import current


@shared_task(base=CoalescingTask, name=RECONCILE_TASK, lane=None, ignore_result=True)
def reconcile(profile: str | None = None) -> dict[str, int]:
    """Create the slots that floor and demand are short of; of one profile, or of all."""
    return reconciling.run(current(), profile)


@shared_task(base=CoalescingTask, name=REAP_TASK, lane=None, ignore_result=True)
def reap() -> int:
    """Drain workers that were idle for too long above the floor."""
    return reaping.run(current())


@shared_task(name=SWEEP_TASK, ignore_result=True)
def sweep() -> dict[str, int]:
    """Undo what time alone undoes, and mend rows without a worker and workers without a row."""
    return sweeping.run(current())
