"""The Celery application, configured from the settings. Importing it opens no socket."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery
from kombu import Exchange, Queue

import config
from config.names import OTHER_TASKS
from config.queues import SEPARATOR, as_option
from config.settings import Settings, load
from config.urls import redis_tls
from tasks import traces
from tasks.beat_alive import watch_beats
from tasks.bootsteps import CheckEngines, KeeperStep, TellWhenFree
from tasks.correlation import follow_tasks
from tasks.logs import configure_logs
from tasks.routing import KnownQueuesOnly
from tasks.transport import register

# Everything crosses the broker as JSON: a pickle is a program, and the broker is shared.
_JSON = ["json"]

# `celery -A tasks flower` looks for its configuration here, once this module is imported. With Flower's own defaults it would
# listen on every address and ask nobody for a password.
os.environ.setdefault("FLOWER_CONF", str(Path(config.__file__).with_name("flowerconfig.py")))


def configuration(settings: Settings) -> dict[str, Any]:
    """Celery's settings for this deployment."""
    timeouts = settings.timeouts
    over_socket = settings.broker_url.startswith("redis+socket:")
    return {
        "broker_url": settings.broker_url,
        "result_backend": settings.broker_url,
        # The URLs have it already; Flower asks here.
        "broker_use_ssl": redis_tls(settings.broker_url),
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": _JSON,
        "result_accept_content": _JSON,
        # A list: Flower reads their names there before the first worker has answered it.
        "task_queues": [Queue(name, Exchange(name), name) for name in settings.all_queues],
        "task_default_queue": settings.routes[OTHER_TASKS],
        "task_create_missing_queues": False,
        "task_routes": {task: {"queue": queue} for task, queue in settings.routes.items() if task != OTHER_TASKS},
        "task_soft_time_limit": timeouts.task_soft_limit_s,
        "task_time_limit": timeouts.task_time_limit_s,
        "task_track_started": True,
        "result_expires": 3600,
        # What a worker holds back no other can run, and nothing urgent can pass: it takes a message when it can run it.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_hijack_root_logger": False,
        "worker_consumer": "tasks.consumer:RefusingConsumer",
        "coalescing": {
            "queues": settings.classes,
            "lease_s": settings.operations.lease_s,
            "look_s": settings.operations.look_s,
            "followers_max": settings.operations.followers_max,
        },
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": {
            "visibility_timeout": timeouts.visibility_s,
            "socket_timeout": 15.0,
            **({} if over_socket else {"socket_keepalive": True}),
            # One step: with more, an urgent message in one busy queue passes everything in all other queues.
            "priority_steps": [0],
            "sep": SEPARATOR,
            # By which the transport picks the next message; what operators change meanwhile it reads in Redis.
            "queue_classes": as_option(settings.queues),
            "message_most_bytes": settings.bounds.message_bytes,
        },
        "redis_socket_timeout": 15.0,
        # A unix socket has no keepalive, and redis-py refuses to be asked for one.
        **({} if over_socket else {"redis_socket_keepalive": True}),
        "beat_scheduler": "tasks.beat.scheduler:SqlScheduler",
    }


def make_app(name: str, settings: Settings, **options: Any) -> Celery:  # noqa: ANN401 - Celery's own options
    """A Celery app of this deployment, on Stoker's transport and its queues alone."""
    register()
    made = Celery(name, amqp=KnownQueuesOnly, task_cls="tasks.starts:StartingTask", **options)
    made.conf.update(configuration(settings))
    return made


_settings = load()
configure_logs(_settings.logs.format)
follow_tasks()
traces.start(_settings.traces)
app = make_app(
    "stoker", _settings, include=["tasks.pool_tasks", "tasks.operation_tasks", "tasks.network_steps", "tasks.ticks"]
)
app.steps["worker"].update({CheckEngines, KeeperStep, TellWhenFree})
watch_beats(_settings)
