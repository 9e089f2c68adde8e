"""Workers and clients of the dispatch bench: forked from one process that has imported everything, so that a start is cheap."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Final, Self

from bench.dispatch_app import READY, UNACKED, Terms, attend, serve
from config.urls import redis_client_url
from scheduler.errors import Permanent, Temporary
from scheduler.redis.connection import connect, patience
from tasks.engines.launch import tail

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from pathlib import Path
    from types import TracebackType

READY_S: Final = 60.0

_IMPORTED: Final = (
    "bench.dispatch_app",
    "celery.app.control",
    "celery.app.log",
    "celery.apps.worker",
    "celery.backends.base",
    "celery.concurrency.prefork",
    "celery.concurrency.thread",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.control",
    "kombu.matcher",
    "kombu.transport.redis",
    "tasks.transport.transports",
)
_forked: Final = get_context("forkserver")
_forked.set_forkserver_preload(list(_IMPORTED))


@dataclass
class Asked:
    """A client of one way, in its process."""

    process: BaseProcess
    pipe: Connection

    def ask(self, method: str, **arguments: Any) -> Any:  # noqa: ANN401 - what it answers
        """What `Client` of dispatch_app makes of it.

        Raises:
            Permanent: it failed.
        """
        self.pipe.send((method, arguments))
        done, answer = self.pipe.recv()
        if not done:
            raise Permanent(
                f"the bench's client failed at {method}", expected="an answer", got=str(answer), remedy="see its log"
            )
        return answer


@dataclass
class Ground:
    """One broker, and all that was started on it; ended with the block."""

    broker_url: str
    logs: Path
    _numbers: Iterator[int] = field(default_factory=count)
    _workers: dict[str, BaseProcess] = field(default_factory=dict)
    _clients: dict[str, Asked] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.redis = connect(redis_client_url(self.broker_url), timeout_s=60.0, retry=patience())

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all that is left."""
        for name in list(self._workers):
            self.kill(name)
        for client in self._clients.values():
            client.process.kill()
            client.process.join()
        with closing(self.redis):
            self.redis.flushdb()

    def client(self, way: str) -> Asked:
        """The one of this way."""
        if way not in self._clients:
            mine, its = _forked.Pipe()
            process = _forked.Process(target=attend, args=(self.broker_url, way, self.logs / f"{way}.log", its))
            process.start()
            its.close()
            self._clients[way] = Asked(process, mine)
        return self._clients[way]

    def start(self, way: str, pool: str, slots: int, *queues: str, **more: Any) -> str:  # noqa: ANN401 - of Terms
        """Start a worker; its name."""
        name = f"w{next(self._numbers)}"
        terms = Terms(name, pool, slots, queues, **more)
        process = _forked.Process(target=serve, args=(self.broker_url, way, terms, self.logs / f"{name}.log"))
        process.start()
        self._workers[name] = process
        return name

    def started(self, way: str, pool: str, slots: int, *queues: str, **more: Any) -> str:  # noqa: ANN401 - of Terms
        """Start a worker and wait until it takes messages.

        Raises:
            Temporary: it did not, in all this time.
        """
        self.start(way, pool, slots, *queues, **more)
        return self.next_ready()

    def next_ready(self) -> str:
        """The next worker that takes messages.

        Raises:
            Temporary: none came, in all this time.
        """
        popped: Any = self.redis.blpop([READY], timeout=READY_S)
        if popped is None:
            newest = max(self.logs.glob("w*.log"), key=lambda log: log.stat().st_mtime, default=None)
            raise Temporary(
                "no worker became ready",
                expected=f"one within {READY_S:g} s",
                got=tail(newest) if newest else "no log",
                remedy="see if the machine is busy",
            )
        return str(popped[1])

    def all_ready(self) -> list[str]:
        """Those that have come to take messages since they were last asked for."""
        names: Any = self.redis.lpop(READY, len(self._workers) or 1)
        return names or []

    def kill(self, name: str) -> None:
        """As the kernel does it: the whole group, without a word."""
        process = self._workers.pop(name)
        assert process.pid is not None, "it was started"
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it leads no group yet
            process.kill()
        process.join()

    def clear(self) -> None:
        """Nothing of what was measured is found by what comes next. No worker may be there."""
        assert not self._workers, f"still there: {', '.join(self._workers)}"
        self.redis.flushdb()

    def backlog(self, *queues: str) -> int:
        """Messages that are queued or held."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.hlen(UNACKED)
            for queue in queues:
                pipe.llen(queue)
            return sum(pipe.execute())
