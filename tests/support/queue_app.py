"""A Celery app on Stoker's transport whose tasks say what they do; `celery -A tests.support.queue_app` runs its worker."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Final

import redis
from celery import Celery, Task
from celery.signals import worker_ready

from tasks.transport import register
from tasks.transport.reading import ENQUEUED_AT

URGENT, LATER = "urgent", "later"
CLASSES: Final = {
    URGENT: {"rank": 0, "bound_s": 60.0, "reserve": 0.0},
    LATER: {"rank": 1, "bound_s": 60.0, "reserve": 0.25},
}
# What a worker is told: the arguments of `build`, as JSON.
ARGUMENTS: Final = "STOKER_TEST_QUEUE_APP"
PATIENCE_S: Final = 60


class Stage:
    """What tests and tasks tell each other, in lists of a Redis that is not the broker. Everything is for one key."""

    def __init__(self, url: str) -> None:
        # What is popped and not read in time would be lost: no timeout of the socket's.
        self.redis = redis.Redis.from_url(url, decode_responses=True, socket_timeout=None)

    def say(self, event: str, key: str, **more: Any) -> None:
        with self.redis.pipeline() as pipe:
            for verb in ("said", "heard"):
                pipe.rpush(f"{verb}:{event}:{key}", json.dumps({**more, "at": time.time()}))
            pipe.execute()

    def hear(self, event: str, key: str, times: int = 1, *, within_s: float = 60.0) -> list[dict[str, Any]]:
        """The next so many of these events, oldest first."""
        heard = []
        for number in range(1, times + 1):
            said = self.redis.blpop([f"heard:{event}:{key}"], timeout=within_s)
            assert said is not None, f"not within {within_s:g} s: number {number} of {times}, {event} of {key}"
            heard.append(json.loads(said[1]))
        return heard

    def said(self, event: str, key: str) -> list[Any]:
        """The numbers of the tasks of this key that said so, in the order in which they did."""
        return [json.loads(each)["n"] for each in self.redis.lrange(f"said:{event}:{key}", 0, -1)]

    def let(self, key: str, times: int = 1) -> None:
        """So many tasks that are held go on."""
        self.redis.rpush(f"let:{key}", *range(times))

    def wait(self, key: str) -> None:
        assert self.redis.blpop([f"let:{key}"], timeout=PATIENCE_S) is not None, f"nobody let {key} go on"


def build(broker: str, stage_url: str, *, stock: bool = False, conf: dict[str, Any] | None = None) -> Celery:
    """The app. `stock=True`: on kombu's own transport, as a deployment before Stoker has it."""
    if not stock:
        register()
    app = Celery("queue-test", set_as_current=False)
    ours = {} if stock else {"queue_classes": CLASSES}
    options = {"priority_steps": [0], "sep": ":", **ours}
    app.conf.update(
        broker_url=broker,
        result_backend=broker,
        task_default_queue=LATER,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        # The gossip of one worker at a time is with nobody.
        worker_enable_remote_control=True,
    )
    for name, value in {"broker_transport_options": {}, **(conf or {})}.items():
        app.conf[name] = {**options, **value} if name == "broker_transport_options" else value
    if app.conf.worker_disable_prefetch:
        from tasks.bootsteps import TellWhenFree  # noqa: PLC0415 - brings much of the product along

        app.steps["worker"].add(TellWhenFree)
    stage = Stage(stage_url)

    def act(self: Task, key: str, n: int = 0, *, hold: bool = False) -> int:
        info = self.request.delivery_info or {}
        more = {"n": n, "queue": info.get("routing_key"), "pid": os.getpid(), "again": info.get("redelivered")}
        stage.say("begins", key, **more, stamped=ENQUEUED_AT in (self.request.headers or {}), id=self.request.id)
        if hold:
            stage.wait(key)
        stage.say("ends", key, n=n)
        return n

    app.task(name="early", bind=True, lazy=False, shared=False, acks_late=False)(act)
    app.task(name="late", bind=True, lazy=False, shared=False, acks_late=True)(act)

    @app.task(name="add", lazy=False, shared=False)
    def add(*numbers: Any) -> int:
        return sum(sum(each) if isinstance(each, list) else each for each in numbers)

    return app


def _worker() -> Celery:
    arguments = json.loads(os.environ[ARGUMENTS])
    name = arguments.pop("name")
    stage = Stage(arguments["stage_url"])
    worker_ready.connect(lambda **_: stage.say("ready", name), weak=False)
    return build(**arguments)


if ARGUMENTS in os.environ:
    app = _worker()
