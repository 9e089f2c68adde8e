"""Beats as processes on engines of their own, and whoever takes what they send: each message is noted, none is run."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import redis

from config.locations import Locations
from scheduler.redis.connection import connect
from scheduler.store import beat, schedule
from scheduler.store.beat import Holder
from tasks.engines import wipe
from tests.support.deployment import Deployment, started
from tests.support.eventually import eventually
from tests.support.profiles import Document, echo

QUEUE = "background"
OTHERS = ("control", "spawn", "user", "flower", "exporter")
# The ticks of the pool are in nobody's way here: nobody serves their queue.
DOCUMENT: Document = {
    "profiles": {"echo": echo()},
    "schedule": {"reconcile_s": 3600.0, "reap_s": 3600.0, "sweep_s": 10.0},
}


@dataclass
class Taker:
    """Takes every message of one queue, as soon as it is there."""

    url: str
    seen: list[str] = field(default_factory=list)  # ids of tasks, in the order in which they came
    tasks: list[str] = field(default_factory=list)  # what their tasks are called
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.over.is_set():
            try:
                with closing(connect(self.url, timeout_s=2.0)) as client:
                    while not self.over.is_set():
                        if found := client.brpop([QUEUE], timeout=0.2):
                            headers = json.loads(found[1])["headers"]
                            self.seen.append(headers["id"])
                            self.tasks.append(headers["task"])
            except redis.RedisError:
                self.over.wait(0.05)


@dataclass
class Beats:
    """Two beats that run, what they have sent, and what is known of it."""

    deployment: Deployment
    taker: Taker

    @property
    def holder(self) -> Holder | None:
        return beat.active_beat(self.deployment.db)

    def until_active(self, *, other_than: int = 0, within_s: float = 20.0) -> Holder:
        """The beat that sends, once it is one of another epoch than this."""

        def look() -> Holder | None:
            holder = self.holder
            return holder if holder and holder.epoch != other_than else None

        found = eventually(look, f"a beat of another epoch than {other_than} sends", within_s=within_s)
        assert found is not None
        return found

    def until_both(self) -> None:
        """One sends, and the other is there to take over."""
        look = (
            "select count(*)::int as n from pg_stat_activity"
            " where application_name = 'stoker beat' and datname = current_database()"
        )
        eventually(lambda: self.deployment.db.rows(look)[0]["n"] == 2, "both are connected", within_s=60)

    def service(self, holder: Holder) -> str:
        """Which of the services that beat is."""
        return next(name for name, pid in self.deployment.stack.pids().items() if pid == holder.pid)

    def add(self, name: str, cadence: str = "200ms") -> None:
        """An entry whose messages are taken."""
        schedule.set_entry(
            self.deployment.db, name, {"task": f"noted.{name}", "cadence": cadence, "queue": QUEUE}, by="test"
        )

    def remove(self, name: str) -> None:
        schedule.reset(self.deployment.db, name, by="test")

    def count(self, name: str) -> int:
        return self.taker.tasks.count(f"noted.{name}")

    def until_sent(self, name: str, more: int, *, since: int | None = None, within_s: float = 15.0) -> None:
        """Until so many more of its messages have come, than now or than that many."""
        before = self.count(name) if since is None else since
        eventually(lambda: self.count(name) >= before + more, f"{more} more of {name}", within_s=within_s)

    def check(self, name: str, *, lost: int = 0) -> None:
        """No message came twice; every time since it was added was sent for or counted; what SQL calls sent, came."""
        self.remove(name)
        rows = self.deployment.db.rows(
            "select task_id::text, due_at, missed, epoch, error, done_at from ticks where entry = %(name)s order by due_at",
            name=name,
        )
        assert [row for row in rows if row["error"]] == []
        ids = [id_ for id_, task in zip(self.taker.seen, self.taker.tasks, strict=False) if task == f"noted.{name}"]
        assert len(ids) == len(set(ids)), "a tick came twice"
        sent = {row["task_id"] for row in rows if row["done_at"]}
        eventually(
            lambda: len(sent - set(self.taker.seen)) <= lost, f"all that were sent have come, but {lost}", within_s=3
        )
        epochs = [row["epoch"] for row in rows]
        assert epochs == sorted(epochs), "one of the past has sent"
        for row, after in pairwise(rows):
            gap = round((after["due_at"] - row["due_at"]).total_seconds() / 0.2)
            assert gap == row["missed"] + 1, "a time that was neither sent for nor counted"


@contextmanager
def running_beats() -> Iterator[Beats]:
    """On engines of their own, so that these can be killed."""
    with ExitStack() as down:
        state_dir = Path(tempfile.mkdtemp(prefix="stoker-test-", dir="/var/tmp"))
        state_dir.chmod(0o711)
        down.callback(shutil.rmtree, state_dir, ignore_errors=True)
        down.callback(wipe, Locations.under(state_dir))
        deployment = down.enter_context(started(state_dir, None, None, DOCUMENT, without=OTHERS))
        taker = Taker(deployment.settings.redis_client_url)
        thread = threading.Thread(target=taker.run, daemon=True)
        thread.start()
        down.callback(thread.join)
        down.callback(taker.over.set)
        yield Beats(deployment, taker)
