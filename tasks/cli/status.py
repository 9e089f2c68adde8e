"""`stoker status`: is everything there, and is anything piling up?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis
from kombu.exceptions import OperationalError

from config.names import QUEUES
from scheduler.redis.hints import connect
from scheduler.store import status
from tasks.cli import views
from tasks.cli.output import console, print_table

if TYPE_CHECKING:
    from tasks.context import Context


def look(context: Context) -> dict[str, Any]:
    """Celery workers that answer within a second, messages by queue, and the pool."""
    nodes = celery_queues(context)
    return {
        "celery_workers": {node: sorted(queue["name"] for queue in queues) for node, queues in sorted(nodes.items())},
        "queues": queue_lengths(context),
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


def queue_lengths(context: Context) -> dict[str, int | None]:
    """Messages waiting in each queue; None when Redis does not answer."""
    try:
        client = connect(context.settings.redis_client_url)
        return {queue: int(client.llen(queue)) for queue in QUEUES}
    except redis.RedisError:
        return dict.fromkeys(QUEUES)


def show(context: Context) -> None:
    """The same for people."""
    seen = look(context)
    workers = [{"worker": node, "queues": ", ".join(queues)} for node, queues in seen["celery_workers"].items()]
    print_table("celery workers", ("worker", "queues"), workers)
    print_table("queues", ("queue", "waiting"), [{"queue": q, "waiting": n} for q, n in seen["queues"].items()])
    console.print(views.pool(context.db))
