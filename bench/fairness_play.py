"""A situation by one way: real messages to a real worker, and how long each of them waited."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from celery.utils import uuid
from kombu import Connection
from kombu.transport import redis as kombu_redis

from bench.fairness_app import READY, STOKER, TASK, WAYS, build, queues_of, transport_options
from bench.fairness_work import BELOW
from config.names import node_queue
from config.urls import redis_client_url
from scheduler.core.queue_simulation import Outcome
from scheduler.errors import Temporary
from scheduler.redis.connection import connect
from scheduler.redis.queues.keys import COUNTS_KEY, POLICY_KEY, RESERVED, counter, policy_text
from tasks.engines.launch import Child, launch, tail
from tasks.transport import transports

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from bench.fairness_work import Situation

SLACK_S: Final = 0.5  # past its bound, that a message may wait and be in time
_WITHIN_S: Final = 60.0
_STEP_S: Final = 0.005
_UNACKED: Final = "unacked"
_ROOT: Final = Path(__file__).parent.parent


@dataclass(frozen=True)
class Sent:
    """A message that was published."""

    kind: str
    at: float


@dataclass(frozen=True, slots=True)
class Played(Outcome):
    """What became of the messages of one class, and how many of them were served within what is allowed."""

    in_time: int

    @classmethod
    def together(cls, rounds: Sequence[Played]) -> Self:
        """The messages of all rounds as if of one."""
        first = rounds[0]
        return cls(
            first.kind,
            first.slack_s,
            tuple(sorted(wait_s for one in rounds for wait_s in one.waits_s)),
            sum(one.served for one in rounds),
            sum(one.reserved for one in rounds),
            sum(one.in_time for one in rounds),
        )


class Server:
    """A worker of one way, and the connection by which work comes to it."""

    _runs = count()

    def __init__(self, way: str, pool: str, broker_url: str, folder: Path) -> None:
        self.way = way
        self._app = build(way, broker_url)
        self._redis = connect(redis_client_url(broker_url))
        self._journal = folder / f"{way}-{pool}.journal"
        self._log = folder / f"{way}-{pool}.log"
        told = {"way": way, "pool": pool, "broker_url": broker_url, "journal": str(self._journal)}
        self._child: Child = launch(
            (sys.executable, "-m", "bench.fairness_app", json.dumps(told)),
            log=self._log,
            cwd=_ROOT,
            death_signal=signal.SIGKILL,
        )
        self._connection = Connection(broker_url, transport_options=transport_options(way))
        # By class, not by scheme: in one process the schemes of Redis mean one transport only.
        self._connection.transport_cls = transports.Transport if way == STOKER else kombu_redis.Transport
        self._producer = self._connection.Producer()

    def close(self) -> None:
        """End the worker, as the kernel does it."""
        os.killpg(self._child.process.pid, signal.SIGKILL)
        self._child.process.wait()
        self._connection.close()
        self._app.close()
        self._redis.close()

    def until_ready(self) -> None:
        """It takes messages."""
        self._until(lambda: self._journal.exists() and READY in self._journal.read_text(encoding="ascii"), "is ready")

    def capacity_per_s(self, messages: int) -> float:
        """How many it starts in a second while there is no end of them."""
        run = next(self._runs)
        began = time.time()
        with self._producer.batch():
            sent = [self._send(run, number, BELOW) for number in range(messages)]
        self._until(lambda: len(self._waits(run)) == messages, f"has started {messages} messages")
        starts = sorted(sent[number].at + wait_s for number, wait_s in self._waits(run).items())
        self._until(self._is_quiet, "has done what it held")
        assert starts[0] >= began, "messages of another run"
        return (messages - 1) / (starts[-1] - starts[0])

    def play(self, situation: Situation) -> list[Played]:
        """All that comes until the end, by class. What has not begun by then has waited until then."""
        run = next(self._runs)
        self._redis.delete(COUNTS_KEY, POLICY_KEY)
        for kind in situation.classes:
            self._redis.hset(POLICY_KEY, kind.name, policy_text(kind.bound_s, kind.reserve))
        sent: list[Sent] = []
        with self._producer.batch():
            sent += [self._send(run, number, BELOW) for number in range(situation.flood)]
        began = time.time()
        for message in situation.arrivals:
            _sleep_until(began + message.at_s)
            sent.append(self._send(run, len(sent), message.kind))
        _sleep_until(began + situation.duration_s)
        ended = time.time()
        self._redis.delete(*queues_of(self.way))
        self._until(self._is_quiet, "has done what it held")
        return self._judge(situation, sent, self._waits(run), ended)

    def _judge(self, situation: Situation, sent: Sequence[Sent], waits: dict[int, float], ended: float) -> list[Played]:
        counts: Any = self._redis.hgetall(COUNTS_KEY)
        judged = []
        for kind in situation.classes:
            own = {number: one.at for number, one in enumerate(sent) if one.kind == kind.name}
            waited_s = sorted(waits.get(number, ended - at) for number, at in own.items())
            served_s = [waits[number] for number in own if number in waits]
            reserved = int(counts.get(counter(node_queue(kind.name, self.way), RESERVED), 0))
            in_time = sum(wait_s <= kind.bound_s + SLACK_S for wait_s in served_s)
            judged.append(Played(kind, SLACK_S, tuple(waited_s), len(served_s), reserved, in_time))
        return judged

    def _send(self, run: int, number: int, kind: str) -> Sent:
        """As `send_task` does it, in a third of the time: a flood is published in a moment."""
        at = time.time()
        message = self._app.amqp.as_task_v2(uuid(), TASK, (run, number, at), origin="bench", ignore_result=True)
        self._producer.publish(
            message.body,
            routing_key=node_queue(kind, self.way),
            headers=message.headers,
            serializer="json",
            delivery_mode=2,
            **message.properties,
        )
        return Sent(kind, at)

    def _waits(self, run: int) -> dict[int, float]:
        """Of the messages of this run that have begun, by their number."""
        found = {}
        for line in self._journal.read_text(encoding="ascii").splitlines():
            of, _, rest = line.partition(" ")
            if of == str(run):
                number, wait_s = rest.split()
                found[int(number)] = max(0.0, float(wait_s))
        return found

    def _is_quiet(self) -> bool:
        with self._redis.pipeline() as pipe:
            pipe.hlen(_UNACKED)
            pipe.exists(*queues_of(self.way))
            return not any(pipe.execute())

    def _until(self, look: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + _WITHIN_S
        while not look():
            if self._child.process.poll() is not None or time.monotonic() > deadline:
                raise Temporary(
                    f"worker {self.way}: not so that it {what}",
                    expected=f"within {_WITHIN_S:g} s",
                    got=tail(self._log) or "nothing in its log",
                    remedy="see if the machine is busy",
                )
            time.sleep(_STEP_S)


class Servers:
    """A server for each way, all ready; one is played at a time."""

    def __init__(self, pool: str, broker_url: str, folder: Path) -> None:
        self._down = ExitStack()
        self._args = (pool, broker_url, folder)
        self.of: dict[str, Server] = {}

    def __enter__(self) -> Self:
        """Start them beside each other."""
        try:
            for way in WAYS:
                self.of[way] = Server(way, *self._args)
                self._down.callback(self.of[way].close)
            for server in self.of.values():
                server.until_ready()
        except BaseException:
            self._down.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End them."""
        self._down.close()


def _sleep_until(at: float) -> None:
    time.sleep(max(0.0, at - time.time()))
