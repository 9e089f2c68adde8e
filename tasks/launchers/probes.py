"""Waits until a worker is ready: asks at once when it says so itself, and every period in case it never does."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from config.profile import ExecProbe, HttpProbe, TcpProbe
from config.settings import python_command
from tasks.launchers import wire
from tasks.launchers.environment import shareable
from tasks.launchers.marks import ENDPOINT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from config.profile import Probe

# A thousand workers that start at once, each probed every 0.1 s, would take the processor time
# that they need to start. One probe costs about 0.2 ms.
_PROBES_PER_S_MAX: Final = 1_000.0
_EXECS_AT_ONCE_MAX: Final = 16


class _Load:
    """What one event loop has in hand."""

    def __init__(self) -> None:
        self.waiting = 0
        self.execs = asyncio.Semaphore(_EXECS_AT_ONCE_MAX)


_loads: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Load]] = WeakKeyDictionary()


async def wait_ready(
    probe: Probe, endpoint: str, environment: Mapping[str, str], connect_s: float, nudge: asyncio.Event
) -> None:
    """Return when the probe succeeds. Sets no deadline: wrap it in ``asyncio.timeout``.

    Args:
        probe: what to ask.
        endpoint: ``http://HOST:PORT`` of the worker.
        environment: variables of the worker that an exec probe sees.
        connect_s: the longest one attempt may take, in seconds.
        nudge: set by whoever has reason to think that the worker is ready now; cleared here.
    """
    load = _loads.setdefault(asyncio.get_running_loop(), _Load())
    with _counted(load):
        while True:
            nudge.clear()
            if await _attempt(probe, endpoint, environment, connect_s, load):
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(max(probe.period_s, load.waiting / _PROBES_PER_S_MAX)):
                    await nudge.wait()


async def _attempt(probe: Probe, endpoint: str, environment: Mapping[str, str], connect_s: float, load: _Load) -> bool:
    try:
        async with asyncio.timeout(connect_s):
            match probe:
                case TcpProbe():
                    return await _connects(endpoint)
                case HttpProbe():
                    return await _answers(endpoint, probe.path)
                case ExecProbe():
                    async with load.execs:
                        return await _succeeds(probe.command, {**environment, ENDPOINT: endpoint})
    except TimeoutError:
        return False


@contextmanager
def _counted(load: _Load) -> Iterator[None]:
    load.waiting += 1
    try:
        yield
    finally:
        load.waiting -= 1


@asynccontextmanager
async def _connection(endpoint: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = wire.address(endpoint)
    reader, writer = await asyncio.open_connection(host, port, limit=wire.STATUS_LINE_BYTES_MAX)
    try:
        yield reader, writer
    finally:
        # Not close: nothing is left to say, and a worker that does not read must not hold this end open.
        writer.transport.abort()


async def _connects(endpoint: str) -> bool:
    try:
        async with _connection(endpoint):
            return True
    except OSError:
        return False


async def _answers(endpoint: str, path: str) -> bool:
    try:
        async with _connection(endpoint) as (reader, writer):
            writer.write(wire.get(endpoint, path))
            line = await reader.readuntil(b"\n")
    except (OSError, EOFError, asyncio.LimitOverrunError):
        return False
    return wire.is_yes(wire.status(line))


async def _succeeds(command: tuple[str, ...], environment: Mapping[str, str]) -> bool:
    try:
        process = await asyncio.create_subprocess_exec(
            *python_command(command),
            env={**shareable(), **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    try:
        return await process.wait() == 0
    finally:
        if process.returncode is None:
            # The whole session: a script's children would outlive it.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
