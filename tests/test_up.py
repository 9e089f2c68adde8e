"""The stack: what dies is restarted, what stops stops in order, and afterwards no process is left."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from config.flower_files import password_file
from config.settings import Settings, load
from scheduler.errors import Permanent, StokerError, Temporary
from tasks.engines import wipe
from tasks.engines.identity import ProcessIdentity
from tasks.services import STOP_AFTER, STOP_FIRST, Service, services
from tasks.supervisor import RestartPolicy
from tasks.up import Stack, run_stack

WAIT_S = 60.0
AT_ONCE = RestartPolicy(first_s=0.0, max_s=0.0)
NO_ENGINES = {"database_url": "postgresql://elsewhere/stoker", "redis_url": "redis://elsewhere"}

CHILD = """
import os, signal, sys
name, journal, stubborn = sys.argv[1], os.open(sys.argv[2], os.O_WRONLY), sys.argv[3] == "stubborn"
def say(what): os.write(journal, f"{what} {name}\\n".encode())
def on_term(*_):
    say("term")
    stubborn or sys.exit(0)
signal.signal(signal.SIGTERM, on_term)
say("up")
while True: signal.pause()
"""


class Journal:
    """What the children say, in the order in which they say it."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        # Open both ways: it neither waits for a writer nor ends with the last one.
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""

    def lines(self, count: int) -> list[str]:
        while self._rest.count(b"\n") < count:
            assert select.select([self.fd], [], [], WAIT_S)[0], f"the children said only {self._rest!r}"
            self._rest += os.read(self.fd, 4096)
        *lines, self._rest = self._rest.split(b"\n", count)
        return [line.decode() for line in lines]

    def silent(self) -> bool:
        return not self._rest and not select.select([self.fd], [], [], 0)[0]

    def note(self, line: str) -> None:
        os.write(self.fd, f"{line}\n".encode())

    def child(self, name: str, *, wave: int = STOP_FIRST, stubborn: bool = False, node: str | None = None) -> Service:
        kind = "stubborn" if stubborn else "polite"
        argv = (sys.executable, "-I", "-S", "-c", CHILD, name, str(self.path), kind)
        return Service(name, argv, grace_s=60.0, stop_wave=wave, node=node)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal")
    yield made
    os.close(made.fd)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(state_dir=tmp_path / "state", **NO_ENGINES)


def nothing() -> None:
    """A step that has nothing to do."""


def stack_of(settings: Settings, children: Sequence[Service], **options: Any) -> Stack:
    wanted: dict[str, Any] = {"prepare": nothing, "on_stop": nothing, "say": lambda _line: None, "policy": AT_ONCE}
    return Stack(settings, services=children, **{**wanted, **options})


def identities(stack: Stack) -> list[ProcessIdentity]:
    return [identity for pid in stack.pids().values() if (identity := ProcessIdentity.of(pid)) is not None]


def test_what_dies_is_started_again_and_said(settings: Settings, journal: Journal) -> None:
    said: list[str] = []
    with stack_of(settings, [journal.child("a"), journal.child("b")], say=said.append) as stack:
        assert sorted(journal.lines(2)) == ["up a", "up b"]
        before = stack.pids()
        stack.kill("a")
        assert journal.lines(1) == ["up a"]
        assert stack.wait_for_pid("a", other_than=before["a"], timeout_s=WAIT_S) != before["a"]
        assert stack.pids()["b"] == before["b"]
    assert said == [f"a: ended by SIGKILL; its log: {settings.locations.logs / 'a.log'}; again in 0 s"]


def test_restart_is_polite_and_no_death(settings: Settings, journal: Journal) -> None:
    said: list[str] = []
    with stack_of(settings, [journal.child("a")], say=said.append) as stack:
        journal.lines(1)
        old = stack.pids()["a"]
        assert stack.restart("a") != old
        assert journal.lines(2) == ["term a", "up a"]
    assert said == []


def test_the_wait_doubles_up_to_its_bound() -> None:
    policy = RestartPolicy(first_s=0.5, max_s=30.0)
    assert [policy.delay_s(n) for n in range(5)] == [0.0, 0.5, 1.0, 2.0, 4.0]
    assert policy.delay_s(10_000) == 30.0


def test_services_stop_wave_by_wave_then_on_stop(settings: Settings, journal: Journal) -> None:
    children = [journal.child("worker", wave=STOP_AFTER), journal.child("beat", wave=STOP_FIRST)]
    with stack_of(
        settings, children, prepare=lambda: journal.note("prepare"), on_stop=lambda: journal.note("on_stop")
    ) as stack:
        lines = journal.lines(3)
        assert lines[0] == "prepare"
        processes = identities(stack)
        assert len(processes) == 2
    assert journal.lines(3) == ["term beat", "term worker", "on_stop"]
    assert not any(process.alive() for process in processes)


def test_grace_has_an_end(settings: Settings, journal: Journal) -> None:
    stubborn = journal.child("a", stubborn=True)
    impatient = Service("a", stubborn.argv, grace_s=0.05)
    with stack_of(settings, [impatient]) as stack:
        journal.lines(1)
        processes = identities(stack)
    assert not any(process.alive() for process in processes)


def test_a_failed_preparation_starts_nothing(settings: Settings, journal: Journal) -> None:
    def fail() -> None:
        raise StokerError("no migration")

    with pytest.raises(StokerError, match="no migration"), stack_of(settings, [journal.child("a")], prepare=fail):
        pytest.fail("entered")
    assert journal.silent()


def test_one_stack_per_state_folder(settings: Settings) -> None:
    with stack_of(settings, []), pytest.raises(Permanent, match="a stack runs on"), stack_of(settings, []):
        pytest.fail("entered")


def test_ready_when_every_worker_answers(settings: Settings, journal: Journal) -> None:
    asked: list[list[str]] = []

    def ping(nodes: Sequence[str], _timeout_s: float) -> set[str]:
        asked.append(sorted(nodes))
        return {nodes[0]}

    with stack_of(settings, [journal.child("a", node="a@x"), journal.child("b", node="b@x")], ping=ping) as stack:
        stack.wait_ready(WAIT_S)
    assert asked == [["a@x", "b@x"], ["b@x"]]


def test_a_worker_that_does_not_answer_is_named_with_its_log(settings: Settings, journal: Journal) -> None:
    with stack_of(settings, [journal.child("mute", node="mute@x")], ping=lambda _nodes, _s: set()) as stack:
        journal.lines(1)
        with pytest.raises(Temporary, match=r"not every Celery worker answers: mute; expected all within 0.05 s"):
            stack.wait_ready(0.05)


def test_a_worker_that_keeps_dying_is_reported_at_once(settings: Settings) -> None:
    broken = Service("broken", (sys.executable, "-c", "raise SystemExit('no such module')"), node="broken@x")
    with (
        stack_of(settings, [broken], ping=lambda _nodes, _s: set()) as stack,
        pytest.raises(Permanent, match=r"(?s)service broken died 3 times.*no such module"),
    ):
        stack.wait_ready(WAIT_S)


def test_the_default_services_show_no_secret(settings: Settings) -> None:
    told = {service.name: service for service in services(settings)}
    assert list(told) == ["control", "spawn", "user", "beat", "beat-standby", "flower", "exporter"]
    with stack_of(settings, []):
        password = password_file(settings.locations)
        assert password.stat().st_mode & 0o777 == 0o600
        secret = password.read_text().strip()
        assert len(secret) >= 32
    visible = [*told["flower"].argv, *told["flower"].env.values()]
    assert not any(secret in part for part in visible)
    with stack_of(settings, []):
        assert password.read_text().strip() == secret, "it stays the same over restarts"


# What follows runs a stack in a process of its own, to kill it or to press Ctrl-C.


@contextmanager
def forked(body: Callable[[], None]) -> Iterator[ProcessIdentity]:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body()
            code = 0
        finally:
            os._exit(code)
    process = ProcessIdentity.of(pid)
    assert process is not None
    try:
        yield process
    finally:
        process.signal(signal.SIGKILL)
        os.waitpid(pid, 0)


def recorded(settings: Settings, *names: str) -> list[ProcessIdentity]:
    found = [ProcessIdentity.read(settings.locations.run / f"{name}.pid") for name in names]
    return [process for process in found if process is not None]


def test_ctrl_c_stops_in_order_and_a_second_one_forces(settings: Settings, journal: Journal) -> None:
    stubborn = journal.child("stubborn", stubborn=True)
    children = [journal.child("worker", wave=STOP_AFTER), journal.child("beat"), stubborn]

    def run() -> None:
        run_stack(
            settings,
            prepare=nothing,
            on_stop=lambda: journal.note("on_stop"),
            services=children,
            say=lambda line: journal.note(line) if line.startswith("up") else None,
        )

    with forked(run) as process:
        assert sorted(line.split(".")[0] for line in journal.lines(4)) == ["up", "up beat", "up stubborn", "up worker"]
        process.signal(signal.SIGINT)
        assert sorted(journal.lines(2)) == ["term beat", "term stubborn"]
        assert journal.silent(), "the worker waits for its wave, the wave for its grace"
        process.signal(signal.SIGTERM)
        assert journal.lines(1) == ["on_stop"]
        assert process.wait(WAIT_S)


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    for given in ("STOKER_DATABASE_URL", "STOKER_REDIS_URL"):
        monkeypatch.delenv(given, raising=False)  # the rest of the suite may run by URL
    settings = load(state_dir=tmp_path / "state")
    with ExitStack() as clean:
        clean.callback(wipe, settings.locations)
        yield settings


def test_kill_9_of_the_supervisor_leaves_no_process(embedded: Settings, journal: Journal) -> None:
    def run() -> None:
        with stack_of(embedded, [journal.child("a"), journal.child("b")], durable=False) as stack:
            pids = [str(stack.wait_for_pid(name, timeout_s=WAIT_S)) for name in ("a", "b")]
            journal.note(f"pids {' '.join(pids)}")
            signal.pause()

    with forked(run) as process:
        pids = next(line for line in journal.lines(3) if line.startswith("pids")).split()[1:]
        children = [ProcessIdentity.of(int(pid)) for pid in pids]
        engines = recorded(embedded, "postgres", "valkey")
        left = [child for child in children if child is not None] + engines
        assert len(left) == 4
        process.signal(signal.SIGKILL)
        assert all(one.wait(WAIT_S) for one in left)


def test_an_engine_that_dies_is_started_again(embedded: Settings, journal: Journal) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        journal.note("engine")

    with stack_of(embedded, [], say=say, durable=False):
        engines = recorded(embedded, "postgres", "valkey")
        for engine in engines:
            engine.signal(signal.SIGKILL)
        assert journal.lines(2) == ["engine", "engine"]
        with closing(redis.Redis.from_url(embedded.redis_client_url)) as client:
            assert client.ping()
        psycopg.connect(embedded.database_dsn).close()
    assert all(line.endswith(".log") for line in said)
