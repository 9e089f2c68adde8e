"""Workers as processes of this machine."""

from __future__ import annotations

import asyncio
import errno
import platform
import signal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
import structlog

from config.settings import python_command
from tasks import processes
from tasks.launchers import children, control, marks
from tasks.launchers.base import (
    NOT_READY,
    Exit,
    ForeignHandle,
    Handle,
    LaunchError,
    LaunchPermanent,
    LaunchSpec,
    LaunchTemporary,
    Placement,
    Running,
    Starting,
)
from tasks.launchers.environment import shareable
from tasks.launchers.ports import LOOPBACK, Ports
from tasks.launchers.probes import wait_ready
from tasks.processes import Identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from config.profile import Profile
    from config.settings import ProcessLauncher as ProcessSettings

_log = structlog.get_logger(__name__)

_SCARCE: Final = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT})
_KILL_WAIT_S: Final = 10.0  # SIGKILL takes effect at once, except on a process that is inside the kernel
_CHILD_ROUNDS_MAX: Final = 10  # a child may start another one while it is being killed
_CGROUP_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")


class ProcessLauncher:
    """Starts workers on this machine and finds them again by the mark in their environment, whoever started them.

    A handle is ``{"host", "pid", "started"}``. The host decides who may act on it; a handle of this host from before a
    reboot or of a container since replaced is a dead worker's.
    """

    name: Final = "process"

    def __init__(self, config: ProcessSettings, log_dir: Path, notify_socket: Path | None = None) -> None:
        self._config = config
        self._log_dir = log_dir
        self._notify_socket = notify_socket
        self._host = platform.node()
        self._ports = Ports(config.first_port, config.ports)

    def close(self) -> None:
        """Nothing runs for it."""

    def capacity(self, profile: Profile) -> int:
        """Workers of the profile that fit into this machine's memory and the port range.

        Of all launchers only this one derives a number from memory: its workers share it with the control plane.
        """
        machine = _machine_memory()
        fit = min(int(machine * self._config.memory_share) // profile.memory, self._config.ports)
        _say_capacity(profile.canonical, fit, machine, self._config.memory_share, profile.memory)
        return fit

    def launch(self, spec: LaunchSpec) -> Placement:
        """Start a worker. Its output is appended to ``worker-<id>.log``, which nothing bounds or rotates."""
        children.reap()
        port = self._ports.take(spec.worker_id)
        try:
            identity, endpoint, node = self._start(spec, port)
        except OSError as error:
            self._ports.give_back(port)
            raise _start_error(spec, error) from error
        self._ports.hold(port, identity)
        return Placement(self._handle(identity), endpoint, node)

    def find(self, pool_id: str, worker_id: int) -> Placement | None:
        """The worker itself, never what it left behind: only a worker leads a session of its own."""
        for seen in marks.workers(pool_id, worker_id):
            if seen.process.session == seen.process.identity.pid:
                return Placement(self._handle(seen.process.identity), seen.endpoint, seen.node)
        return None

    def list(self, pool_id: str) -> list[Running]:
        """Every worker of the pool on this machine; of one that died, the oldest process that it left behind."""
        children.reap()
        return [
            Running(seen.worker_id, self._handle(seen.process.identity), seen.process.age_s)
            for seen in marks.workers(pool_id)
        ]

    def keep_room(self, pool_id: str, profiles: Iterable[Profile]) -> int:  # noqa: ARG002 - of none
        """This machine is here already."""
        return 0

    def alive(self, handle: Handle) -> bool:
        """Whether exactly this process runs: its pid, start time, boot and pid namespace."""
        return processes.alive(self._identity(handle))

    def owns(self, handle: Handle) -> bool:
        """Whether the handle was made on a machine of this name."""
        return handle.get("host") == self._host

    async def wait_ready(self, starting: Starting, nudge: asyncio.Event, within_s: float) -> None:
        """Probe the worker until it answers."""
        kind = starting.profile
        assert starting.endpoint is not None, "every launch of this launcher tells it"
        environment = {**kind.environment, marks.WORKER: str(starting.worker_id)}
        try:
            async with asyncio.timeout(within_s):
                await wait_ready(kind.readiness, starting.endpoint, environment, kind.connect_s, nudge)
        except TimeoutError as late:
            what = f"worker {starting.worker_id} of profile {kind.name}"
            expected, remedy = f"an answer at {starting.endpoint}", "read its log, or raise the profile's ready_s"
            raise LaunchTemporary(what, expected, f"not ready within {within_s:.0f} s", remedy, NOT_READY) from late

    async def wait_exit(self, handle: Handle) -> Exit:
        """Return when the process is gone; its exit code if it was this process's child (negative: the signal)."""
        identity = self._identity(handle)
        # Held over the wait: whoever reaps first, the code stays readable here.
        child = children.get(identity)
        await control.wait_gone(identity)
        # Not poll: while another thread polls the same child, that answers None for an end it could tell.
        code = await asyncio.to_thread(child.wait) if child else None
        children.reap()
        return Exit(code)

    async def protect(self, handle: Handle, *, claimed: bool) -> None:
        """Nobody moves processes."""

    async def wait_cordons(self, known: Mapping[str, bool]) -> dict[str, bool]:  # noqa: ARG002 - never news
        """This machine is cordoned by operators, in Stoker's own record."""
        await asyncio.Event().wait()
        return {}

    async def stop(self, handle: Handle, pool_id: str, worker_id: int, grace_s: float) -> None:
        """SIGTERM, `grace_s` seconds, SIGKILL; then SIGKILL to every process that carries the worker's mark."""
        identity = self._identity(handle)
        if control.send(identity, signal.SIGTERM) and not await _gone_within(identity, grace_s):
            await _kill(identity)
        await _kill_marked(pool_id, worker_id)
        children.reap()

    def _start(self, spec: LaunchSpec, port: int) -> tuple[Identity, str, str]:
        endpoint = f"http://{LOOPBACK}:{port}"
        node = self._node(spec.worker_id)
        environment = {
            **shareable(),
            **spec.profile.environment,
            marks.POOL: spec.pool_id,
            marks.WORKER: str(spec.worker_id),
            marks.PORT: str(port),
            marks.ENDPOINT: endpoint,
            marks.NODE: node,
            # Never an argument: every user of the machine can read those.
            marks.ACTIVATION_KEY: spec.activation_key,
        }
        if self._notify_socket is not None:
            environment["NOTIFY_SOCKET"] = str(self._notify_socket)
        argv = [
            part.replace("{port}", str(port)).replace("{worker}", str(spec.worker_id))
            for part in python_command(spec.profile.command)
        ]
        self._log_dir.mkdir(parents=True, exist_ok=True)
        with (self._log_dir / f"worker-{spec.worker_id}.log").open("ab", buffering=0) as log:
            identity = children.start(argv, environment, log, self._config.nice)
        marks.await_mark(identity)
        return identity, endpoint, node

    def _node(self, worker_id: int) -> str:
        size = self._config.simulated_node_size
        return f"sim-{(worker_id - 1) // size:04d}" if size else self._host

    def _handle(self, identity: Identity) -> dict[str, str | int]:
        return {"host": self._host, "pid": identity.pid, "started": identity.started}

    def _identity(self, handle: Handle) -> Identity:
        if not self.owns(handle):
            raise ForeignHandle(
                "worker handle",
                f"one of host {self._host!r}",
                f"{handle.get('host')!r}",
                "leave it to the launcher of that host; `owns` tells",
            )
        return Identity(int(handle["pid"]), str(handle["started"]))


async def _gone_within(identity: Identity, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await control.wait_gone(identity)
    except TimeoutError:
        return False
    return True


async def _kill(identity: Identity) -> None:
    control.send(identity, signal.SIGKILL)
    if not await _gone_within(identity, _KILL_WAIT_S):
        raise _outlived(f"process {identity.pid}", f"alive {_KILL_WAIT_S:g} s later")


async def _kill_marked(pool_id: str, worker_id: int) -> None:
    for _ in range(_CHILD_ROUNDS_MAX):
        # In a thread: reading every process's environment takes milliseconds that the loop's other waits need.
        left = await asyncio.to_thread(marks.marked, pool_id, worker_id)
        if not left:
            return
        await asyncio.gather(*(_kill(seen.process.identity) for seen in left))
    raise _outlived(f"children of worker {worker_id}", f"new ones in each of {_CHILD_ROUNDS_MAX} rounds")


def _outlived(what: str, got: str) -> LaunchTemporary:
    return LaunchTemporary(what, "gone after SIGKILL", got, "call stop again; a process in state D waits for its disk")


def _start_error(spec: LaunchSpec, error: OSError) -> LaunchError:
    what = f"start of worker {spec.worker_id} of profile {spec.profile.name}"
    got = f"{error.strerror or error} ({error.filename or spec.profile.command[0]})"
    if error.errno in _SCARCE:
        return LaunchTemporary(
            what, "room for one more process", got, "it is retried; raise the limit or lower the floor"
        )
    return LaunchPermanent(
        what, "a command that can be executed and a log folder that can be written", got, "mend the profile's command"
    )


def _machine_memory() -> int:
    total = psutil.virtual_memory().total
    try:
        # In a container the machine's memory is not ours to fill.
        return min(total, int(_CGROUP_LIMIT.read_text(encoding="ascii")))
    except (OSError, ValueError):  # no such file, or the word "max"
        return total


@cache
def _say_capacity(profile: str, fit: int, machine: int, share: float, memory: int) -> None:
    # Cached: said once for each profile and outcome, not on every tick.
    say = _log.info if fit else _log.warning
    say(
        "workers of this profile are capped by this machine's memory",
        profile=profile,
        workers_max=fit,
        machine_bytes=machine,
        memory_share=share,
        worker_bytes=memory,
        remedy="lower the profile's memory or raise launcher.process.memory_share",
    )
