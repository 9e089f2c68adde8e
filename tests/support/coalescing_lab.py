"""Coalescing under real workers: a Valkey, workers of either pool as processes of their own, and the client's side of both."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from celery import Celery

from config.locations import Locations
from scheduler.redis.coalescing import Protocol
from tasks.coalescing.coalescer import coalescer_of
from tasks.engines import EmbeddedValkey, wipe
from tasks.engines.folders import make_home
from tests.support import celery_worker
from tests.support.coalescing_app import SHELF, Stage, build
from tests.support.eventually import eventually

STAGE_DATABASE = 15
WAIT_S = 20
KEPT = ("counts", "settled")  # what of the protocol outlives a run
_numbers = itertools.count()


@contextmanager
def valkey(folder: Path, *, durable: bool = False) -> Iterator[EmbeddedValkey]:
    """A Redis that may be flushed, stopped and cut off."""
    locations = Locations.under(folder)
    with ExitStack() as down:
        down.callback(wipe, locations)
        make_home(locations)
        server = EmbeddedValkey(locations, durable=durable)
        down.callback(server.stop)
        server.start()
        yield server


@dataclass
class Worker(celery_worker.Worker):
    """One whose slots can all be taken."""

    slots: int


@dataclass
class Lab:
    """One broker database and whoever works on it."""

    server: EmbeddedValkey
    database: int
    conf: Mapping[str, Any] = field(default_factory=dict)
    workers: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        socket = self.server.locations.valkey_socket
        self.broker = f"redis+socket://{socket}?virtual_host={self.database}"
        self.store = redis.Redis.from_url(f"unix://{socket}?db={self.database}", decode_responses=True)
        self.stage_url = f"unix://{socket}?db={STAGE_DATABASE}"
        self.stage = Stage(self.stage_url)
        self.app: Celery = build(self.broker, self.stage_url, **self.conf)
        self.prefix = coalescer_of(self.app).prefix

    @property
    def protocol(self) -> Protocol:
        return coalescer_of(self.app).protocol

    def task(self, name: str) -> Any:
        return self.app.tasks[name]

    def start(self, pool: str, slots: int = 4) -> Worker:
        """A worker that starts; `until_ready` waits for it."""
        name = f"{pool}{next(_numbers)}"
        arguments = {"stage_url": self.stage_url, "broker": self.broker, "conf": dict(self.conf)}
        command = [sys.executable, "-m", "tests.support.coalescing_app"]
        process = subprocess.Popen(
            [*command, json.dumps({**arguments, "name": name, "pool": pool, "slots": slots})],
            cwd=Path(__file__).parents[2],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
        )
        self.workers.append(Worker(name, process, slots))
        return self.workers[-1]

    def until_ready(self, *workers: Worker) -> None:
        for worker in workers:
            self.stage.hear("ready", worker.name, within_s=60)

    def until(self, look: Callable[[], object], what: str, *, within_s: float = 60.0) -> None:
        eventually(look, what, within_s=within_s)

    @contextmanager
    def plugged(self) -> Iterator[None]:
        """No worker has a slot for anything in this block: what is asked for stays queued, in its order."""
        key = f"plug{next(_numbers)}"
        slots = sum(worker.slots for worker in self.workers)
        for _ in range(slots):
            self.task("plug").delay(key)
        for _ in range(slots):
            self.stage.hear("plugged", key)
        try:
            yield
        finally:
            self.stage.redis.rpush(f"unplug:{key}", *range(slots))

    def shelved(self, name: str, *args: Any, **options: Any) -> Any:
        """Asked for on a queue that no worker takes from."""
        return self.task(name).apply_async(args, queue=SHELF, **options)

    def unshelve(self, queue: str) -> int:
        """All that lies on the shelf, to where workers take it."""
        moved = 0
        while self.store.lmove(self.prefix + SHELF, self.prefix + queue):
            moved += 1
        return moved

    def protocol_keys(self) -> set[str]:
        """What of the protocol is there, apart from what outlives runs."""
        names = {key.rpartition(":")[2] for key in self.store.scan_iter(f"{self.prefix}{{stoker}}:*")}
        return names - set(KEPT)

    def until_nothing_is_left(self) -> None:
        eventually(lambda: not self.protocol_keys(), "every trace of the runs is gone", within_s=30)

    def close(self) -> None:
        celery_worker.forget_results(self.app)
        for worker in self.workers:
            worker.kill()
        self.app.close()
        self.store.close()
        self.protocol._client.close()


@contextmanager
def lab(server: EmbeddedValkey, database: int, **conf: Any) -> Iterator[Lab]:
    with closing(Lab(server, database, conf)) as made:
        yield made


__all__ = ["WAIT_S", "Lab", "Worker", "lab", "valkey"]
