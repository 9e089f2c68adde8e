"""The sweep of what coalesces: runs that nothing was heard of get what they lack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from tasks.coalescing.coalescer import coalescer_of
from tasks.coalescing.payload import Payload

if TYPE_CHECKING:
    from celery import Celery

    from scheduler.redis.coalescing import Repaired

log = structlog.get_logger(__name__)


def repair(app: Celery, at_most: int) -> Repaired:
    """Look at what is due, and publish the heirs whose leader's end was seen by somebody who did not live to do it."""
    found = coalescer_of(app).protocol.repair(at_most)
    for heir in found.heirs:
        name = Payload.read(heir.payload).task
        if name in app.tasks:
            app.tasks[name].publish(heir.id, heir.payload)
        else:
            log.error("nobody can publish this request: its task is not registered here", task=name, id=heir.id)
    return found
