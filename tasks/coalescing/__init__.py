"""A base for any Celery task whose requests for the same effect share one run: `@shared_task(base=CoalescingTask, key=...)`."""

from __future__ import annotations

from tasks.coalescing.columns import OWN_KEY
from tasks.coalescing.execution import Execution
from tasks.coalescing.task import CoalescingTask

__all__ = ["OWN_KEY", "CoalescingTask", "Execution"]
