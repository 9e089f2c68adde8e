"""Signal and await exactly one process, child of ours or not, without ever touching its successor in number."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from tasks import processes

if TYPE_CHECKING:
    from tasks.processes import Identity

_POLL_S: Final = 0.25  # only where the kernel has no pidfd, or this process has no descriptor left for one


def send(identity: Identity, signum: signal.Signals) -> bool:
    """Send a signal to exactly this process; False when it is gone.

    Raises:
        PermissionError: the process belongs to another user.
    """
    try:
        fd = _open(identity)
    except OSError:
        return _send_by_number(identity, signum)
    if fd is None:
        return False
    try:
        return _send_by_descriptor(fd, signum)
    finally:
        os.close(fd)


async def wait_gone(identity: Identity) -> None:
    """Return when exactly this process no longer runs. Costs nothing while it does, where the kernel has pidfds."""
    try:
        fd = _open(identity)
    except OSError:
        await _poll_gone(identity)
        return
    if fd is None:
        return
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    try:
        loop.add_reader(fd, gone.set)
        await gone.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def _open(identity: Identity) -> int | None:
    # Raises OSError where there is no pidfd to be had.
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        raise OSError(errno.ENOSYS, "this platform has no pidfd")
    try:
        fd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    # Checked after opening: from here on the descriptor means this process, whatever becomes of its number.
    if processes.alive(identity):
        return fd
    os.close(fd)
    return None


def _send_by_descriptor(fd: int, signum: signal.Signals) -> bool:
    if sys.platform == "linux":
        try:
            signal.pidfd_send_signal(fd, signum)
        except ProcessLookupError:
            return False
    return True


def _send_by_number(identity: Identity, signum: signal.Signals) -> bool:
    if not processes.alive(identity):
        return False
    try:
        os.kill(identity.pid, signum)
    except ProcessLookupError:
        return False
    return True


async def _poll_gone(identity: Identity) -> None:
    while processes.alive(identity):  # noqa: ASYNC110 - nothing to await: this is the platform without an event for it
        await asyncio.sleep(_POLL_S)
