"""Stoker's transport under real workers: brokers that may be stopped, workers of any pool, and the client's side of both."""

from __future__ import annotations

import itertools
import json
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from celery import Celery

from tasks.engines.launch import launch
from tests.support import celery_worker
from tests.support.eventually import eventually
from tests.support.queue_app import ARGUMENTS, LATER, URGENT, Stage, build

WAIT_S = 40  # a prefork worker on a busy machine takes half of it to stop
_numbers = itertools.count()


@dataclass
class Worker(celery_worker.Worker):
    """One that writes a log."""

    log: Path

    @property
    def hostname(self) -> str:
        return f"{self.name}@test"

    def end(self, how: signal.Signals) -> int:
        """Signal the main process alone, and wait for its end."""
        self.process.send_signal(how)
        return self.process.wait(WAIT_S)


@dataclass
class Lab:
    """One broker database and whoever works on it."""

    broker: str
    store: redis.Redis  # the broker's database, by a connection of the test's own
    stage_url: str
    logs: Path
    stock: bool = False
    conf: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    workers: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stage = Stage(self.stage_url)
        self.app: Celery = build(self.broker, self.stage_url, stock=self.stock, conf=dict(self.conf))

    def start(
        self, pool: str, slots: int = 2, *, queues: str = f"{LATER},{URGENT}", stock: bool = False, **conf: Any
    ) -> Worker:
        """A worker that starts; `until_ready` waits for it."""
        name = f"{pool}{next(_numbers)}"
        arguments = {"broker": self.broker, "stage_url": self.stage_url, "stock": stock, "conf": {**self.conf, **conf}}
        options = {"pool": pool, "concurrency": slots, "queues": queues, "hostname": f"{name}@test"}
        given = [f"--{option}={value}" for option, value in options.items()]
        log = self.logs / f"{name}.log"
        child = launch(
            [
                *(sys.executable, "-m", "celery", "--app=tests.support.queue_app", "worker", *given),
                *("--loglevel=INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"),
            ],
            log=log,
            cwd=Path(__file__).parents[2],
            env={ARGUMENTS: json.dumps({**arguments, "name": name})},
            death_signal=signal.SIGKILL,
        )
        self.workers.append(Worker(name, child.process, log))
        return self.workers[-1]

    def until_ready(self, *workers: Worker) -> None:
        """They take messages, and hear what is asked of them: that begins with the first turn of their event loops."""

        def answers(worker: Worker) -> bool:
            # By a connection of its own: the test may cut those that are kept.
            with self.app.connection_for_write() as own:
                return bool(self.app.control.ping(destination=[worker.hostname], timeout=1, limit=1, connection=own))

        for worker in workers:
            self.stage.hear("ready", worker.name, within_s=60)
            eventually(lambda worker=worker: answers(worker), f"{worker.name} answers", within_s=WAIT_S)

    def joined(self, pool: str, slots: int = 2, **how: Any) -> Worker:
        """A worker that is ready."""
        worker = self.start(pool, slots, **how)
        self.until_ready(worker)
        return worker

    def send(self, task: str, key: str, *numbers: int, queue: str = LATER, hold: bool = False, **how: Any) -> list[Any]:
        """Ask for a task for each number."""
        return [
            self.app.tasks[task].apply_async((key, n), {"hold": hold}, queue=queue, headers={"n": n}, **how)
            for n in numbers
        ]

    def ask(self, worker: Worker, what: str, **arguments: Any) -> Any:
        """What this worker answers to `celery inspect`."""
        to = [worker.hostname]
        # It ends with the answer, where the default is to wait for others until the time is over.
        answers = self.app.control.broadcast(what, arguments=arguments, destination=to, reply=True, timeout=10, limit=1)
        assert [list(each) for each in answers] == [to], answers
        return answers[0][worker.hostname]

    def until_accepted(self, worker: Worker, times: int) -> None:
        """The worker itself knows that this many tasks run, where `hear` is told of it by the tasks.

        Until a prefork worker has read that, a cold shutdown does not end the task but waits for it, and an early task is
        not acknowledged.
        """
        eventually(lambda: len(self.ask(worker, "active")) == times, f"{times} tasks are known to run", within_s=WAIT_S)

    def held(self) -> int:
        """Messages that workers have taken and not acknowledged."""
        return int(self.store.hlen(f"{self.prefix}unacked"))

    def queued(self, *queues: str) -> list[int]:
        """The numbers of the tasks that wait, queue by queue, the next one first."""
        lists: Any = [self.store.lrange(self.prefix + queue, 0, -1) for queue in queues or (URGENT, LATER)]
        return [json.loads(text)["headers"]["n"] for texts in lists for text in reversed(texts)]

    def recorded(self) -> list[int]:
        """The numbers of the tasks that are recorded as held."""
        texts: Any = self.store.hvals(f"{self.prefix}unacked")
        return [json.loads(text)[0]["headers"]["n"] for text in texts]

    def until_idle(self) -> None:
        """Nothing waits and nothing is held."""
        eventually(
            lambda: not self.held() and not self.store.exists(self.prefix + URGENT, self.prefix + LATER),
            "nothing waits and nothing is held",
            within_s=WAIT_S,
        )

    def close(self) -> None:
        if self.app.conf.result_backend:
            celery_worker.forget_results(self.app)
        for worker in self.workers:
            worker.kill()
        self.app.close()
        self.store.close()
        self.stage.redis.close()


@contextmanager
def lab(socket: Path, database: int, stage_url: str, logs: Path, **how: Any) -> Iterator[Lab]:
    """On a database of a server that listens on a unix socket."""
    store = redis.Redis.from_url(f"unix://{socket}?db={database}", decode_responses=True)
    broker = f"redis+socket://{socket}?virtual_host={database}"
    with closing(Lab(broker, store, stage_url, logs, **how)) as made:
        yield made
