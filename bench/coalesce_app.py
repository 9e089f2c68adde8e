"""One Celery app that has the same tasks plain, as Stoker's, as celery-singleton's and as celery-once's; `-m` runs its worker."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from celery import Celery, Task
from celery.signals import worker_ready
from celery_once import QueueOnce
from celery_singleton import Singleton

from bench.celery_worker import be_worker
from config.urls import redis_client_url
from scheduler.redis.connection import connect, patience
from tasks.coalescing import CoalescingTask

if TYPE_CHECKING:
    from collections.abc import Mapping

STOCK: Final = "stock"
STOKER: Final = "stoker"
SINGLETON: Final = "celery_singleton"
ONCE: Final = "celery_once"

SERVED: Final = "served"
UNSERVED: Final = "unserved"

SHORT_S: Final = 0.005
_HELD_S: Final = 60.0
_PREFIX: Final = "bench:"


@dataclass(frozen=True)
class Way:
    """A task class, and what its library wants of a task whose first argument is its key."""

    name: str
    base: type[Any]
    options: Mapping[str, Any] = field(default_factory=dict)


def ways(lease_s: float) -> dict[str, Way]:
    """The four; and the peers with every setting of theirs that bears on what is asked here.

    A lock that expires does so after `lease_s`: the time after which Stoker, too, takes a silent run for dead.
    """
    once = {"keys": ["key"], "graceful": True}
    found = (
        Way(STOCK, Task),
        Way(STOKER, CoalescingTask, {"key": ("key",)}),
        Way(SINGLETON, Singleton, {"unique_on": ["key"]}),
        Way(f"{SINGLETON}_expiring", Singleton, {"unique_on": ["key"], "lock_expiry": round(lease_s)}),
        Way(ONCE, QueueOnce, {"once": once}),
        Way(f"{ONCE}_expiring", QueueOnce, {"once": {**once, "timeout": round(lease_s)}}),
        Way(f"{ONCE}_unlocking", QueueOnce, {"once": {**once, "unlock_before_run": True}}),
    )
    return {way.name: way for way in found}


class Board:
    """What the bench and its tasks tell each other, by key: lists beside the broker's."""

    def __init__(self, broker_url: str) -> None:
        self.redis = connect(redis_client_url(broker_url), timeout_s=2 * _HELD_S, retry=patience())

    def close(self) -> None:
        """Close the connections."""
        self.redis.close()

    def hold(self, *keys: str) -> None:
        """Runs of these that are asked to be held wait for `let`."""
        self.redis.sadd(_PREFIX + "held", *keys)

    def let(self, *keys: str) -> None:
        """They may end, and none is held any more."""
        with self.redis.pipeline() as pipe:
            pipe.srem(_PREFIX + "held", *keys)
            for key in keys:
                pipe.rpush(f"{_PREFIX}let:{key}", *range(8))
            pipe.execute()

    def unhold(self, *keys: str) -> None:
        """Runs that begin from here on are not held."""
        self.redis.srem(_PREFIX + "held", *keys)

    def write_state(self, key: str, state: int) -> None:
        """What the runs of this key read."""
        self.redis.set(f"{_PREFIX}state:{key}", state)

    def say(self, event: str, key: str, **more: Any) -> None:  # noqa: ANN401 - JSON
        """It has happened."""
        self.redis.rpush(f"{_PREFIX}{event}:{key}", json.dumps({"at": time.time(), **more}))

    def said(self, event: str, key: str) -> list[dict[str, Any]]:
        """How often this has happened, oldest first."""
        lines: Any = self.redis.lrange(f"{_PREFIX}{event}:{key}", 0, -1)
        return [json.loads(line) for line in lines]

    def perform(self, key: str, worker: str, *, held: bool) -> int:
        """A run: it reads the state, takes as long as it is told to, and returns what it had read."""
        state = int(str(self.redis.get(f"{_PREFIX}state:{key}") or 0))
        beside: Any = self.redis.incr(f"{_PREFIX}live:{key}")
        self.say("begun", key, state=state, worker=worker, beside=beside - 1)
        if held and self.redis.sismember(_PREFIX + "held", key):
            self.redis.blpop([f"{_PREFIX}let:{key}"], timeout=_HELD_S)
        self.redis.decr(f"{_PREFIX}live:{key}")
        self.say("ended", key, state=state, worker=worker)
        return state

    def count(self, key: str) -> None:
        """One more short run."""
        self.redis.incr(f"{_PREFIX}runs:{key}")

    def counted(self, key: str) -> int:
        """How many short runs."""
        return int(str(self.redis.get(f"{_PREFIX}runs:{key}") or 0))


def build(broker_url: str, lease_s: float, board: Board | None = None) -> Celery:
    """The app. All of its tasks acknowledge late, so that none has its message lost before the others'."""
    app = Celery("stoker-bench", set_as_current=False)
    client_url = redis_client_url(broker_url)
    app.conf.update(
        broker_url=broker_url,
        result_backend=broker_url,
        result_expires=600,
        task_default_queue=SERVED,
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"priority_steps": [0], "sep": ":"},
        coalescing={"lease_s": lease_s, "look_s": lease_s},
        # Neither of the two reads the URL of a unix socket as Celery writes it.
        singleton_backend_url=client_url,
        ONCE={
            "backend": "celery_once.backends.Redis",
            "settings": {"url": client_url.replace("unix://", "redis+socket://", 1), "default_timeout": 3600},
        },
    )

    def quiet(key: str, number: int = 0) -> None:
        pass

    def short(key: str, number: int = 0) -> int:
        assert board is not None, "only a worker runs it"
        board.count(key)
        time.sleep(SHORT_S)
        return number

    def staged(self: Any, key: str, held: bool = False) -> int:  # noqa: ANN401, FBT001, FBT002 - a task's arguments
        assert board is not None, "only a worker runs it"
        return board.perform(key, self.request.hostname.partition("@")[0], held=held)

    for way in ways(lease_s).values():
        for function in (quiet, short, staged):
            app.task(
                name=f"{way.name}.{function.__name__}",
                base=way.base,
                bind=function is staged,
                ignore_result=function is quiet,
                lazy=False,
                shared=False,
                **way.options,
            )(function)
    return app


def main() -> None:
    """A worker of the threads pool, as the JSON in its first argument says."""
    told = json.loads(sys.argv[1])
    board = Board(told["broker_url"])
    app = build(told["broker_url"], told["lease_s"], board)
    worker_ready.connect(lambda **_: board.say("ready", told["name"]), weak=False)
    be_worker(app, told["name"], pool="threads", slots=told["slots"], queues=told["queues"])


if __name__ == "__main__":
    main()
