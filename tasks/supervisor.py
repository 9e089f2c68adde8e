"""Keeps processes running: what dies is started again, ever more slowly while it keeps dying, until told to stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from scheduler.errors import StokerError, Temporary
from tasks.engines.launch import Child, launch, tail

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.engines.server import EmbeddedServer
    from tasks.services import Service

Say = Callable[[str], None]
REAP_S_MAX: Final = 10.0


@dataclass(frozen=True)
class RestartPolicy:
    """How long to leave a process that died: first, doubled by each further early death, at most max; in seconds."""

    first_s: float = 0.5
    max_s: float = 30.0
    healthy_s: float = 30.0  # one that lived this long has not died early

    def delay_s(self, early_deaths: int) -> float:
        """The wait after so many deaths in a row, each within `healthy_s` of its start."""
        return min(self.max_s, self.first_s * 2.0 ** min(early_deaths - 1, 32)) if early_deaths > 0 else 0.0


@dataclass
class _Kept:
    """One service and what has become of it."""

    service: Service
    child: Child | None = None
    began_at: float = 0.0
    early_deaths: int = 0
    start_at: float | None = None  # when it is to be started again
    kill_at: float | None = None  # when its grace ends
    wanted: bool = True


class Supervisor:
    """Runs services, and restarts embedded engines that die under them.

    One thread starts every process and lives until `close`: a child's parent-death signal follows the thread that
    forked it. All else reaches that thread as messages, so nothing is decided in two places at once.
    """

    def __init__(
        self,
        services: Sequence[Service],
        *,
        logs: Path,
        say: Say,
        engines: Sequence[EmbeddedServer] = (),
        policy: RestartPolicy | None = None,
    ) -> None:
        self._kept = {service.name: _Kept(service) for service in services}
        self._logs = logs
        self._say = say
        self._engines = engines
        self._policy = policy or RestartPolicy()
        # put() of a SimpleQueue may interrupt itself, so a signal handler may call what posts.
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._changed = threading.Condition()
        self._stopping = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start every service, in order, and watch the engines. Returns at once."""
        self._inbox.put(self._start_all)
        for engine in self._engines:
            self._watch_engine(engine)
        self._thread.start()

    def stop(self) -> None:
        """Stop the services, wave by wave: SIGTERM, their grace, SIGKILL. Returns when none is left."""
        self._inbox.put(self._begin_to_stop)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._stopping and not self._living()))

    def force(self) -> None:
        """Kill every service now and start none again; `stop` then returns soon. Safe in a signal handler."""
        self._inbox.put(self._kill_all)

    def close(self) -> None:
        """End the supervisor's thread, after `stop`, if it was started. An engine that it restarted ends with it."""
        self._inbox.put(self._close)
        if self._thread.ident is not None:
            self._thread.join()

    def pids(self) -> dict[str, int]:
        """The process number of each service that runs now."""
        with self._changed:
            return {kept.service.name: kept.child.identity.pid for kept in self._living() if kept.child}

    def early_deaths(self, name: str) -> int:
        """How often in a row the service has died soon after its start."""
        with self._changed:
            return self._kept[name].early_deaths

    def kill(self, name: str, signum: int = signal.SIGKILL) -> None:
        """Send a signal to a service, if it runs."""
        with self._changed:
            child = self._kept[name].child
        if child is not None:
            child.identity.signal(signum)

    def restart(self, name: str) -> int:
        """Stop a service within its grace and start it again at once; its new process number."""
        old = self.pids().get(name, 0)
        kept = self._kept[name]
        self._inbox.put(lambda: self._restart(kept))
        return self.wait_for_pid(name, other_than=old, timeout_s=kept.service.grace_s + REAP_S_MAX)

    def wait_for_pid(self, name: str, *, other_than: int, timeout_s: float) -> int:
        """Wait until the service runs as a process other than that one; its number.

        Raises:
            Temporary: it does not within `timeout_s`.
        """

        def is_another() -> bool:
            child = self._kept[name].child
            return child is not None and child.identity.pid != other_than

        with self._changed:
            self._changed.wait_for(is_another, timeout_s)
            child = self._kept[name].child
        if child is None or child.identity.pid == other_than:
            raise Temporary(
                f"service {name} was not started again",
                expected=f"a new process within {timeout_s:g} s",
                got=f"none; the end of its log:\n{tail(self.log(name))}\n",
                remedy="mend what its log names",
            )
        return child.identity.pid

    def wait_for_change(self, timeout_s: float) -> None:
        """Wait until some service starts or dies, at most `timeout_s`."""
        with self._changed:
            self._changed.wait(timeout_s)

    def log(self, name: str) -> Path:
        """What the service says."""
        return self._logs / f"{name}.log"

    # From here on: the supervisor's own thread.

    def _run(self) -> None:
        try:
            while not self._closed:
                self._take_one_message()
        finally:
            # Whoever waits in `stop` must learn of it even if this thread fails: its end ends the children, too.
            with self._changed:
                self._closed = True
                self._changed.notify_all()

    def _take_one_message(self) -> None:
        try:
            act = self._inbox.get(timeout=self._until_next_deadline())
        except Empty:
            act = self._meet_deadlines
        with self._changed:
            act()
            if self._stopping:
                self._stop_next_wave()
            self._changed.notify_all()

    def _until_next_deadline(self) -> float | None:
        times = [at for kept in self._kept.values() for at in (kept.start_at, kept.kill_at) if at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _meet_deadlines(self) -> None:
        now = time.monotonic()
        for kept in self._kept.values():
            if kept.kill_at is not None and kept.kill_at <= now:
                self._say(f"{kept.service.name}: still there after {kept.service.grace_s:g} s, killed")
                self._kill(kept)
            if kept.start_at is not None and kept.start_at <= now:
                self._launch(kept)

    def _start_all(self) -> None:
        for kept in self._kept.values():
            self._launch(kept)

    def _launch(self, kept: _Kept) -> None:
        kept.start_at = None
        service = kept.service
        try:
            child = launch(service.argv, log=self.log(service.name), env=service.env, death_signal=signal.SIGKILL)
        except OSError as error:
            self._plan_restart(kept, f"cannot be started: {error}")
            return
        kept.child, kept.began_at = child, time.monotonic()
        threading.Thread(
            target=self._wait_for_end, args=(kept, child), name=f"wait-{service.name}", daemon=True
        ).start()

    def _wait_for_end(self, kept: _Kept, child: Child) -> None:
        code = child.process.wait()
        self._inbox.put(lambda: self._ended(kept, code))

    def _ended(self, kept: _Kept, code: int) -> None:
        asked = kept.kill_at is not None
        kept.child = kept.kill_at = None
        if not kept.wanted:
            return
        if asked:
            kept.early_deaths = 0
            self._launch(kept)
        else:
            self._plan_restart(kept, f"ended {_how(code)}; its log: {self.log(kept.service.name)}")

    def _plan_restart(self, kept: _Kept, why: str) -> None:
        now = time.monotonic()
        early = now - kept.began_at < self._policy.healthy_s
        kept.early_deaths = kept.early_deaths + 1 if early else 1
        delay_s = self._policy.delay_s(kept.early_deaths)
        kept.start_at = now + delay_s
        self._say(f"{kept.service.name}: {why}; again in {delay_s:g} s")

    def _restart(self, kept: _Kept) -> None:
        if kept.wanted and kept.child is None:
            self._launch(kept)
        else:
            self._end_politely(kept)

    def _end_politely(self, kept: _Kept) -> None:
        if kept.child is not None and kept.kill_at is None:
            kept.kill_at = time.monotonic() + kept.service.grace_s
            kept.child.identity.signal(signal.SIGTERM)

    def _kill(self, kept: _Kept) -> None:
        if kept.child is not None:
            kept.kill_at = time.monotonic() + REAP_S_MAX
            kept.child.identity.signal(signal.SIGKILL)

    def _begin_to_stop(self) -> None:
        self._stopping = True
        for kept in self._kept.values():
            kept.wanted, kept.start_at = False, None

    def _stop_next_wave(self) -> None:
        living = self._living()
        first = min((kept.service.stop_wave for kept in living), default=0)
        for kept in living:
            if kept.service.stop_wave == first:
                self._end_politely(kept)

    def _kill_all(self) -> None:
        self._begin_to_stop()
        for kept in self._living():
            self._kill(kept)

    def _close(self) -> None:
        self._closed = True

    def _living(self) -> list[_Kept]:
        return [kept for kept in self._kept.values() if kept.child is not None]

    def _watch_engine(self, engine: EmbeddedServer, *, delay_s: float = 0.0, early_deaths: int = 0) -> None:
        began_at = time.monotonic()

        def wait() -> None:
            engine.wait_for_end()
            early = time.monotonic() - began_at < self._policy.healthy_s
            self._inbox.put(lambda: self._engine_ended(engine, early_deaths + 1 if early else 1))

        watcher = threading.Timer(delay_s, wait)
        watcher.daemon = True
        watcher.start()

    def _engine_ended(self, engine: EmbeddedServer, early_deaths: int) -> None:
        if self._stopping:
            return
        delay_s = 0.0
        try:
            engine.start()
        except StokerError as error:
            delay_s = self._policy.delay_s(early_deaths)
            self._say(f"{engine.name}: the embedded engine ended; {error}; again in {delay_s:g} s")
        else:
            self._say(f"{engine.name}: the embedded engine ended and was started again; its log: {engine.log}")
        self._watch_engine(engine, delay_s=delay_s, early_deaths=early_deaths)


def _how(code: int) -> str:
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
