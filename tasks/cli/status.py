"""`stoker status`: is everything there, and is anything piling up?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis
from kombu.exceptions import OperationalError

from config.names import OPERATION_QUEUES, node_queue
from scheduler.redis.connection import connect
from scheduler.store import beat, operations, schedule, status
from tasks.cli import operation_views, schedule_views, views
from tasks.cli.output import console, print_table

if TYPE_CHECKING:
    from tasks.context import Context


def look(context: Context) -> dict[str, Any]:
    """Celery workers that answer within a second, the beat that sends, messages by queue, operations, and the pool."""
    nodes = celery_queues(context)
    return {
        "celery_workers": {node: sorted(queue["name"] for queue in queues) for node, queues in sorted(nodes.items())},
        "beat": schedule_views.beat_row(beat.active_beat(context.db)),
        "schedule": schedule_views.summary(schedule.entries(context.db)),
        **queue_lengths(context),
        "operations": operations.live(context.db),
        "profiles": status.pool(context.db),
        "nodes": status.nodes(context.db),
        "tenants": status.tenants(context.db),
    }


def celery_queues(context: Context) -> dict[str, Any]:
    """The queues of each Celery worker that answers within a second; none when the broker does not."""
    try:
        return context.app.control.inspect(timeout=1.0).active_queues() or {}
    except OperationalError:
        return {}


def queue_lengths(context: Context) -> dict[str, dict[str, Any]]:
    """Messages waiting in each queue, and in those that only one node's workers serve; None when Redis does not answer."""
    names = context.settings.all_queues
    lengths: dict[str, int | None] = dict.fromkeys(names)
    try:
        with connect(context.settings.redis_client_url).pipeline(transaction=False) as pipe:
            for name in names:
                pipe.llen(name)
            lengths = dict(zip(names, map(int, pipe.execute()), strict=True))
    except redis.RedisError:
        pass
    nodes = {
        node: {queue: lengths[node_queue(queue, node)] for queue in OPERATION_QUEUES}
        for node in context.settings.network.nodes
    }
    return {"queues": {queue: lengths[queue] for queue in context.settings.classes}, "node_queues": nodes}


def show(context: Context) -> None:
    """The same for people."""
    seen = look(context)
    workers = [{"worker": node, "queues": ", ".join(queues)} for node, queues in seen["celery_workers"].items()]
    print_table("celery workers", ("worker", "queues"), workers)
    console.print(f"schedule: {schedule_views.words(seen['schedule'])}", highlight=False, markup=False)
    console.print(schedule_views.foot(seen["beat"], schedule.now(context.db)))
    print_table("queues", ("queue", "waiting"), [{"queue": q, "waiting": n} for q, n in seen["queues"].items()])
    nodes = [{"node": node, **lengths} for node, lengths in seen["node_queues"].items()]
    print_table("queues of nodes", ("node", *OPERATION_QUEUES), nodes)
    console.print(operation_views.live(seen["operations"]))
    console.print(views.pool_of(seen["profiles"], seen["nodes"], seen["tenants"]))
