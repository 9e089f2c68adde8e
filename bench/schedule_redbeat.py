"""The Celery app of the peer: stock Celery with RedBeat, its lock as long as Stoker's lease, its loop a fifth of it."""

from __future__ import annotations

import os
from typing import Final

from celery import Celery

QUEUE: Final = "redbeat"
BROKER: Final = "STOKER_BENCH_BROKER_URL"
CLIENT: Final = "STOKER_BENCH_REDIS_URL"
LOCK_S: Final = 5
LOOP_S: Final = 1


def make(broker_url: str, redis_url: str) -> Celery:
    """RedBeat keeps its entries in that Redis, and sends by that broker."""
    app = Celery("redbeat-bench", broker=broker_url, set_as_current=False)
    app.conf.update(
        beat_scheduler="redbeat.RedBeatScheduler",
        beat_max_loop_interval=LOOP_S,
        redbeat_redis_url=redis_url,
        redbeat_lock_timeout=LOCK_S,
    )
    return app


# As `celery -A bench.schedule_redbeat` finds it.
app: Final = make(os.environ.get(BROKER, ""), os.environ.get(CLIENT, ""))
