"""Pairs of beats as processes, Stoker's and RedBeat's, and whoever takes what they send."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Final

import redis
from celery.schedules import schedule as interval
from redbeat import RedBeatSchedulerEntry

from bench import schedule_redbeat
from config.names import BACKGROUND_QUEUE
from scheduler.errors import Temporary
from scheduler.redis.connection import connect
from scheduler.store import beat, schedule

if TYPE_CHECKING:
    from pathlib import Path

    from config.settings import Settings
    from scheduler.store.database import Database

ENTRY: Final = "measured"
TASK: Final = "bench.measured"
PERIOD_S: Final = 0.2
RARELY_S: Final = 3600.0
PATIENCE_S: Final = 30.0
ON_ITS_WAY_S: Final = 0.02  # what was sent before a signal has come by then


@dataclass(frozen=True)
class Arrival:
    """One message."""

    at: float  # by this machine's monotonic clock
    id: str


class Taker:
    """Takes every message of one queue, and calls whoever waits."""

    def __init__(self, url: str, queue: str) -> None:
        self.arrivals: list[Arrival] = []
        self._url, self._queue = url, queue
        self._came = threading.Condition()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more."""
        self._over.set()
        self._thread.join()

    def first_since(self, at: float, timeout_s: float = PATIENCE_S) -> Arrival | None:
        """The first message that came after that moment; None when none does in time."""

        def found() -> Arrival | None:
            return next((one for one in self.arrivals if one.at > at), None)

        with self._came:
            self._came.wait_for(lambda: found() is not None, max(0.0, at + timeout_s - time.monotonic()))
            return found()

    def until_quiet(self) -> None:
        """Until nothing has come for some periods."""
        while self.first_since(time.monotonic(), 4 * PERIOD_S) is not None:
            pass

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                with closing(connect(self._url)) as client:
                    while not self._over.is_set():
                        if taken := client.brpop([self._queue], timeout=0.2):
                            self._note(str(taken[1]))
            except redis.RedisError:
                self._over.wait(0.05)

    def _note(self, message: str) -> None:
        with self._came:
            self.arrivals.append(Arrival(time.monotonic(), json.loads(message)["headers"]["id"]))
            self._came.notify_all()


@dataclass
class Pair(ABC):
    """Two beats of one kind: the first sends, for the second starts when the first does."""

    settings: Settings
    logs: Path
    name: ClassVar[str]
    queue: ClassVar[str]
    argv: ClassVar[tuple[str, ...]]
    beats: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin to listen."""
        self.taker = Taker(self.settings.redis_client_url, self.queue)

    @abstractmethod
    def say(self, period_s: float) -> None:
        """Make the entry one of that period, as an operator would."""

    def start(self) -> None:
        """Both, and wait until the first sends."""
        self.say(PERIOD_S)
        self._launch()
        self.first_since(time.monotonic())
        self._launch()

    def first_since(self, at: float) -> Arrival:
        """The first message after that moment.

        Raises:
            Temporary: none came in time.
        """
        arrival = self.taker.first_since(at)
        if arrival is None:
            raise Temporary(
                f"{self.name} sends nothing", expected=f"a message within {PATIENCE_S:g} s", remedy=str(self.logs)
            )
        return arrival

    def edit_s(self) -> float:
        """From an edit to the first message that there is because of it."""
        self.say(RARELY_S)
        self.taker.until_quiet()
        began = time.monotonic()
        self.say(PERIOD_S / 2)
        return self.first_since(began).at - began

    def kill_s(self) -> float:
        """From the death of the one that sends to the first message of the other; a new one then stands by."""
        self.sends()
        first = self.beats.pop(0)
        first.send_signal(signal.SIGKILL)
        first.wait()
        began = time.monotonic()
        took_s = self.first_since(began + ON_ITS_WAY_S).at - began
        self._launch()
        return took_s

    def stop_s(self) -> float:
        """From when the one that sends stands still to the first message of the other; then it goes on, and may send."""
        self.sends()
        first = self.beats.pop(0)
        first.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        took_s = self.first_since(began + ON_ITS_WAY_S).at - began
        first.send_signal(signal.SIGCONT)
        self.taker.first_since(time.monotonic() + 2.0)
        if first.poll() is None:
            self.beats.append(first)
        else:
            self._launch()
        return took_s

    def sends(self) -> None:
        """Wait until it does."""
        self.say(PERIOD_S)
        self.first_since(time.monotonic())

    def still_sends(self) -> bool:
        """Whether anything comes, but for what was on its way."""
        return self.taker.first_since(time.monotonic() + 1.0, timeout_s=2.0) is not None

    @abstractmethod
    def doubled(self) -> int:
        """Messages that came a second time."""

    def close(self) -> None:
        """End both."""
        for one in self.beats:
            one.kill()
            one.wait()
        self.taker.close()

    def _launch(self) -> None:
        with (self.logs / f"{self.name}.log").open("ab") as log:
            argv = [sys.executable, "-m", "celery", *self.argv]
            env = {
                **os.environ,
                schedule_redbeat.BROKER: self.settings.broker_url,
                schedule_redbeat.CLIENT: self.settings.redis_client_url,
            }
            self.beats.append(subprocess.Popen(argv, env=env, stdout=log, stderr=log))  # noqa: S603 - its own


@dataclass
class Stoker(Pair):
    """`celery -A tasks beat`, twice."""

    db: Database = field(kw_only=True)
    name = "stoker"
    queue = BACKGROUND_QUEUE
    argv = ("-A", "tasks", "beat", "--loglevel", "INFO")

    def say(self, period_s: float) -> None:
        """By the store, as `stoker schedule set` does."""
        change = {"task": TASK, "cadence": f"{period_s:.3f}s", "queue": self.queue}
        schedule.set_entry(self.db, ENTRY, change, by="bench")

    def doubled(self) -> int:
        """The same id means the same time."""
        ids = [one.id for one in self.taker.arrivals]
        return len(ids) - len(set(ids))

    def sends(self) -> None:
        """And that it is the first: on a machine that is very busy a lease may have ended by itself."""
        super().sends()
        holder = beat.active_beat(self.db)
        self.beats.sort(key=lambda one: holder is None or one.pid != holder.pid)

    def lost(self) -> int:
        """Times that were neither sent for nor counted, and messages that were sent and never came."""
        self.say(RARELY_S)
        self.taker.until_quiet()
        seen = {one.id for one in self.taker.arrivals}
        sent = schedule.ticks(self.db, ENTRY, beat.TICKS_KEPT)
        return sum(row["done_at"] is None or row["task_id"] not in seen for row in sent)


@dataclass
class RedBeat(Pair):
    """RedBeat, twice."""

    name = "redbeat"
    queue = schedule_redbeat.QUEUE
    argv = ("-A", "bench.schedule_redbeat", "beat", "--loglevel", "INFO")

    def __post_init__(self) -> None:
        """With an app of this process, for edits."""
        super().__post_init__()
        self._app = schedule_redbeat.make(self.settings.broker_url, self.settings.redis_client_url)

    def say(self, period_s: float) -> None:
        """By the library's own call."""
        entry = RedBeatSchedulerEntry(ENTRY, TASK, interval(period_s), options={"queue": self.queue}, app=self._app)
        entry.save()

    def doubled(self) -> int:
        """Its messages do not say for which time they are: two that came closer than half of its shortest period."""
        at = [one.at for one in self.taker.arrivals]
        return sum(after - before < PERIOD_S / 4 for before, after in pairwise(at))
