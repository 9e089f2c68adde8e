"""A whole deployment on one machine: engines, migrations, Celery workers, beat, Flower and the exporter, up and down as one."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

import redis
import typer
from celery import Celery, current_app
from kombu.exceptions import OperationalError

from config.by_file import SecretFileError
from config.flower_files import FLOWER_USER, FlowerFileError, password, password_file
from scheduler.errors import Permanent, Temporary
from tasks.engines import Engines
from tasks.engines.folders import locked_at_once, make_home
from tasks.engines.launch import tail
from tasks.services import Service
from tasks.services import services as default_services
from tasks.supervisor import RestartPolicy, Say, Supervisor

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType, TracebackType

    from config.settings import Settings

Ping = Callable[[Sequence[str], float], Collection[str]]
PING_S: Final = 1.0
READY_S_MAX: Final = 60.0
HOPELESS_DEATHS: Final = 3
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def celery_ping(broker_url: str) -> Ping:
    """Asks the Celery workers of that broker; returns as soon as all named nodes have answered, or after the timeout."""

    def ping(nodes: Sequence[str], timeout_s: float) -> set[str]:
        # An app of its own: this process's may have been made with other settings than the stack's.
        with Celery(broker=broker_url, set_as_current=False) as app:
            app.conf.broker_transport_options = current_app.conf.broker_transport_options
            try:
                replies = app.control.ping(destination=list(nodes), timeout=timeout_s)
            except (OperationalError, redis.RedisError):  # a broker that restarts: nobody has answered
                return set()
        return {name for reply in replies for name in reply}

    return ping


class Stack:
    """Everything of one state folder, for the time of a `with` block. Afterwards no process of it is left.

    `prepare` runs when the engines answer and before any service starts (migrations); `on_stop` when every service has
    stopped and before the engines do (draining the pool). The engines die with the thread that enters the block.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        prepare: Callable[[], object],
        on_stop: Callable[[], None],
        services: Sequence[Service] | None = None,
        ping: Ping | None = None,
        say: Say = typer.echo,
        policy: RestartPolicy | None = None,
        durable: bool = True,
    ) -> None:
        self.settings = settings
        self.engines = Engines(settings.database_url, settings.redis_url, settings.locations, durable=durable)
        self._services = default_services(settings) if services is None else list(services)
        self._prepare, self._on_stop = prepare, on_stop
        self._ping = ping or celery_ping(self.engines.redis_url)
        self._supervisor = Supervisor(
            self._services, logs=settings.locations.logs, say=say, engines=self.engines.embedded, policy=policy
        )
        self._down = ExitStack()

    def __enter__(self) -> Self:
        """Bring it up; if any part fails, what was up already is taken down again.

        Raises:
            Permanent: another stack runs on this state folder, or an engine cannot start.
            Temporary: an engine does not answer.
        """
        make_home(self.settings.locations)
        with ExitStack() as down:
            down.enter_context(_alone(self.settings.locations.run / "up.lock"))
            # Closed after the engines: one that the supervisor has restarted would end with its thread.
            down.callback(self._supervisor.close)
            down.enter_context(self.engines)
            self._prepare()
            _flower_password(self.settings)
            down.callback(self._on_stop)
            self._supervisor.start()
            down.callback(self._supervisor.stop)
            self._down = down.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it down: beat and Flower, the Celery workers, `on_stop`, the engines."""
        self._down.close()

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until every Celery worker answers.

        Raises:
            Temporary: one of them does not within `timeout_s`.
            Permanent: one of them keeps dying. Both show the end of its log.
        """
        missing = {_node_name(service.node): service.name for service in self._services if service.node}
        deadline = time.monotonic() + timeout_s
        while missing:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise Temporary(
                    f"not every Celery worker answers: {', '.join(sorted(missing.values()))}",
                    expected=f"all within {timeout_s:g} s",
                    got=self._tails(missing.values()),
                    remedy="mend what the logs name, or wait longer on a busy machine",
                )
            hopeless = [name for name in missing.values() if self._supervisor.early_deaths(name) >= HOPELESS_DEATHS]
            if hopeless:
                raise Permanent(
                    f"service {', '.join(hopeless)} died {HOPELESS_DEATHS} times before it was ready",
                    got=self._tails(hopeless),
                    remedy="mend what the log names; `stoker doctor` checks the usual causes",
                )
            answered = self._ping(list(missing), min(PING_S, left_s))
            missing = {node: name for node, name in missing.items() if node not in answered}
            if missing and not answered:
                self._supervisor.wait_for_change(min(PING_S / 10, left_s))

    def pids(self) -> dict[str, int]:
        """The process number of each service that runs now."""
        return self._supervisor.pids()

    def kill(self, name: str, signum: int = signal.SIGKILL) -> None:
        """Send a signal to a service, if it runs; it is started again when it dies of it."""
        self._supervisor.kill(name, signum)

    def restart(self, name: str) -> int:
        """Stop a service within its grace and start it again at once; its new process number."""
        return self._supervisor.restart(name)

    def wait_for_pid(self, name: str, *, other_than: int = 0, timeout_s: float) -> int:
        """Wait until the service runs as a process other than that one; its number. See `Supervisor.wait_for_pid`."""
        return self._supervisor.wait_for_pid(name, other_than=other_than, timeout_s=timeout_s)

    def force(self) -> None:
        """Kill every service now. Safe in a signal handler; leaving the block does the rest."""
        self._supervisor.force()

    def _tails(self, names: Collection[str]) -> str:
        logs = [self._supervisor.log(name) for name in sorted(names)]
        return "".join(f"this at the end of {log}:\n{tail(log)}\n" for log in logs)


def _flower_password(settings: Settings) -> None:
    """Made before Flower starts, so that whoever brings it up is told where it is, or what is wrong with it."""
    try:
        password(settings.locations)
    except (FlowerFileError, SecretFileError) as error:
        raise Permanent("Flower's password", remedy=str(error)) from error


def run_stack(
    settings: Settings,
    *,
    prepare: Callable[[], object],
    on_stop: Callable[[], None],
    services: Sequence[Service] | None = None,
    say: Say = typer.echo,
) -> None:
    """What `stoker up` does: bring everything up, stay until SIGINT, SIGTERM or SIGHUP, take everything down.

    A second signal kills the services instead of waiting for their grace. To be called in the main thread.

    Raises:
        Permanent, Temporary: as `Stack`.
    """
    stack = Stack(settings, prepare=prepare, on_stop=on_stop, services=services, say=say)
    with _interruptible(stack, say), stack:
        if services is None:
            say(f"Flower: http://{settings.flower.address}:{settings.flower.port} as user {FLOWER_USER}, ")
            say(f"  its password is in {password_file(settings.locations)}")
            say(f"metrics: http://{settings.exporter.address}:{settings.exporter.port}/metrics")
        say(f"logs: {settings.locations.logs}")
        try:
            stack.wait_ready(READY_S_MAX)
        except (Permanent, Temporary) as error:  # it goes on trying, and a person may mend it meanwhile
            say(str(error))
        else:
            say("up. Ctrl-C stops everything")
        threading.Event().wait()


@contextlib.contextmanager
def _interruptible(stack: Stack, say: Say) -> Iterator[None]:
    """End the block at the first stop signal, and kill the services at the next."""
    signals = 0

    def receive(_signum: int, _frame: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            raise KeyboardInterrupt
        stack.force()

    # What was ignored from the start (nohup) stays so.
    heard = [signum for signum in STOP_SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN]
    before = {signum: signal.signal(signum, receive) for signum in heard}
    try:
        yield
    except KeyboardInterrupt:
        say("down")
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with locked_at_once(lock) as held:
        if not held:
            raise Permanent(
                f"a stack runs on {lock.parent.parent} already",
                expected="one per state folder",
                remedy="stop it (Ctrl-C where it runs), or set STOKER_STATE_DIR to another folder",
            )
        yield


def _node_name(node: str) -> str:
    return node.replace("%h", socket.gethostname())
