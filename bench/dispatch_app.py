"""One Celery app on either transport: its worker, and the client that publishes to it, each a process that is forked ready."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final

from celery import Celery
from celery.signals import worker_ready
from kombu import Queue
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual

from config.urls import redis_client_url
from scheduler.redis.connection import connect, patience
from tasks.engines.parent_death import PR_SET_PDEATHSIG
from tasks.transport import register

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

    import redis

STOCK: Final = "stock"
STOKER: Final = "stoker"
WAYS: Final = (STOCK, STOKER)

PREFORK: Final = "prefork"
THREADS: Final = "threads"

UNACKED: Final = "unacked"
READY: Final = "bench:ready"  # list: names of workers, as they come to take messages
BEGUN: Final = "bench:begun"  # list: when tasks began, in seconds since the epoch
DONE: Final = "bench:done"  # hash: id -> how often it has run to its end
ACKNOWLEDGED: Final = "bench:acknowledged"  # set: ids

_BATCH: Final = 500
_NICE: Final = 10
_FILL_S: Final = 0.03
# As an operator has them: the order of the queues is the same on both sides, and Stoker's keeps bounds and reserves as well.
_RESERVES: Final = {"q0": 0.0, "q1": 0.0, "q2": 0.25, "q3": 0.25, "q4": 0.1}
_CLASSES: Final = {
    name: {"rank": rank, "bound_s": 5.0, "reserve": reserve} for rank, (name, reserve) in enumerate(_RESERVES.items())
}


@dataclass(frozen=True)
class Terms:
    """On which a worker works."""

    name: str
    pool: str
    slots: int
    queues: tuple[str, ...]
    acks_late: bool = True
    multiplier: int = 1
    restores_after_s: float = 3600.0  # what it holds, when nothing is heard of it any more
    records: bool = False  # says of each acknowledged message, in the same transaction, that it was


def build(broker_url: str, way: str, terms: Terms | None = None) -> Celery:
    """The app; after this, its process knows one transport only."""
    if way == STOKER:
        register()
    app = Celery("stoker-bench", set_as_current=False)
    options: dict[str, Any] = {"priority_steps": [0], "sep": ":"}
    options |= {"queue_classes": _CLASSES} if way == STOKER else {"queue_order_strategy": "priority"}
    if terms is not None:
        options |= {"visibility_timeout": terms.restores_after_s}
        # By itself kombu looks for what the dead hold every 100 s.
        options |= {"unacked_restore_interval": 1, "unacked_restore_throttle": 1} if terms.records else {}
        app.conf.update(
            task_queues=[Queue(name, routing_key=name) for name in terms.queues],
            task_acks_late=terms.acks_late,
            worker_prefetch_multiplier=terms.multiplier,
        )
    app.conf.update(
        broker_url=broker_url,
        broker_transport_options=options,
        broker_connection_retry_on_startup=True,
        task_ignore_result=True,
        worker_hijack_root_logger=False,
    )
    redis = connect(redis_client_url(broker_url), retry=patience())

    def nothing(number: int) -> None:
        pass

    def begin(*slot: object) -> None:  # noqa: ARG001 - what a launch is told
        redis.rpush(BEGUN, time.time())

    def mark(number: str) -> None:
        redis.hincrby(DONE, number, 1)

    for function in (nothing, begin, mark):
        app.task(name=f"bench.{function.__name__}", lazy=False, shared=False)(function)
    return app


def serve(broker_url: str, way: str, terms: Terms, log: Path) -> None:
    """Be a worker, the head of a process group of its own, until killed."""
    _settle(log)
    app = build(broker_url, way, terms)
    if terms.records:
        kombu_redis.QoS.ack = _acknowledge  # type: ignore[method-assign]

    def say(**_: object) -> None:
        with connect(redis_client_url(broker_url), retry=patience()) as redis:
            redis.rpush(READY, terms.name)
        if terms.records:  # others are started beside it while it works, and are wanted soon
            os.setpriority(os.PRIO_PGRP, 0, _NICE)

    worker_ready.connect(say, weak=False)
    app.Worker(
        hostname=f"{terms.name}@bench",
        pool=terms.pool,
        concurrency=terms.slots,
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    ).start()


def attend(broker_url: str, way: str, log: Path, pipe: Connection) -> None:
    """Be a client that does what it is asked for: a pair of a method of `Client` and its arguments; None ends it."""
    _settle(log)
    client = Client(broker_url, way)
    while asked := pipe.recv():
        method, arguments = asked
        try:
            pipe.send((True, getattr(client, method)(**arguments)))
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever asked is told
            pipe.send((False, f"{type(error).__name__}: {error}"))


class Client:
    """Publishes on one transport."""

    def __init__(self, broker_url: str, way: str) -> None:
        self._url, self._way = broker_url, way
        self._app = build(broker_url, way)
        self._redis: redis.Redis = connect(redis_client_url(broker_url), timeout_s=60.0)
        self._published: dict[str, int] = {}
        self._over = Event()
        self._filling: Thread | None = None

    def fill(self, queues: tuple[str, ...], count: int) -> float:
        """So many messages, over the queues in turn, by a batch; the seconds it took."""
        return self._batch(
            "bench.nothing", [((number,), queues[number % len(queues)], None) for number in range(count)]
        )

    def singly(self, queue: str, count: int) -> float:
        """So many messages one by one; the seconds it took."""
        task, began = self._app.tasks["bench.nothing"], time.perf_counter()
        for number in range(count):
            task.apply_async((number,), queue=queue)
        return time.perf_counter() - began

    def latencies_ms(self, queue: str, count: int, pause_s: float) -> list[float]:
        """From before a publish until its task begins, one after the other, each when the worker has gone to sleep again."""
        found = []
        for _ in range(count):
            time.sleep(pause_s)
            at = time.time()
            self._app.tasks["bench.begin"].apply_async((1, 1), queue=queue)
            found.append(1e3 * (self._next_begun() - at))
        return found

    def fan_out(self, queue: str, count: int) -> tuple[float, float]:
        """Publish so many launches in one go: seconds until all are published, and until the last one has begun."""
        at = time.time()
        published_s = self._batch("bench.begin", [((number, 1), queue, None) for number in range(count)])
        last = max(self._next_begun() for _ in range(count))
        return published_s, last - at

    def keep_filled(self, queues: tuple[str, ...], least: int) -> None:
        """From now on, until `stop_filling`: no queue has fewer messages, for long."""
        self._over.clear()
        self._published = dict.fromkeys(queues, 0)
        self._filling = Thread(target=self._fill_up, args=(least,), daemon=True)
        self._filling.start()

    def stop_filling(self) -> dict[str, int]:
        """How many were published to each queue; their ids count from 0."""
        assert self._filling is not None, "keep_filled comes first"
        self._over.set()
        self._filling.join()
        return self._published

    def _fill_up(self, least: int) -> None:
        while not self._over.wait(_FILL_S):
            for queue, first in self._published.items():
                held: Any = self._redis.llen(queue)
                if held < least:
                    ids = [f"{queue}.{number}" for number in range(first, first + 2 * least - held)]
                    self._batch("bench.mark", [((one,), queue, one) for one in ids])
                    self._published[queue] += len(ids)

    def _batch(self, task: str, calls: list[tuple[tuple[object, ...], str, str | None]]) -> float:
        began = time.perf_counter()
        with self._app.producer_or_acquire() as producer, producer.batch(_BATCH):
            for args, queue, name in calls:
                self._app.tasks[task].apply_async(args, queue=queue, task_id=name, producer=producer)
        return time.perf_counter() - began

    def _next_begun(self) -> float:
        popped: Any = self._redis.blpop([BEGUN], timeout=30)
        assert popped is not None, "a task has not begun within 30 s"
        return float(popped[1])


def _acknowledge(self: Any, delivery_tag: str) -> None:  # noqa: ANN401 - kombu's QoS
    """In the place of kombu's, which both ways use: one more command, in the transaction that acknowledges."""
    name = self._delivered[delivery_tag].headers["id"]
    self._remove_from_indices(delivery_tag).sadd(ACKNOWLEDGED, name).execute()
    virtual.QoS.ack(self, delivery_tag)


def _settle(log: Path) -> None:
    """A process group of its own, which ends with who forked it, and whose output is in the log."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
