"""Hears workers say READY=1, the way services tell systemd, so that nobody has to wait for the next probe."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Self

from tasks.launchers.base import LaunchPermanent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DATAGRAM_BYTES_MAX: Final = 4_096
_DATAGRAMS_PER_WAKE_MAX: Final = 256  # then the loop's other work has its turn
_PATH_BYTES_MAX: Final = 100  # the kernel's bound is 104 on macOS, 108 on Linux


class NotifyListener:
    r"""A datagram socket that turns ``READY=1\nSTOKER_WORKER_ID=7`` into the event of worker 7.

    A hint, not a fact: any process of this user can send it, so all it does is bring the next probe forward. One
    that is lost costs one probe period.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: dict[int, asyncio.Event] = {}
        self._socket: socket.socket | None = None
        self._inode = 0

    async def __aenter__(self) -> Self:
        """Listen on the running loop.

        Raises:
            LaunchPermanent: the path is too long for a socket.
        """
        if len(os.fsencode(self.path)) > _PATH_BYTES_MAX:
            raise LaunchPermanent(
                "notify socket",
                f"a path of at most {_PATH_BYTES_MAX} bytes",
                f"{self.path}",
                "choose a shorter state_dir",
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            self.path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            listener.setblocking(False)  # noqa: FBT003 - the standard library's signature
            listener.bind(str(self.path))
            self.path.chmod(0o600)
            self._inode = self.path.stat().st_ino
            asyncio.get_running_loop().add_reader(listener, self._hear, listener)
        except BaseException:
            listener.close()
            raise
        self._socket = listener
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening. The path goes too, unless another listener has taken it over."""
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        with suppress(FileNotFoundError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()

    @contextmanager
    def expect(self, worker_id: int) -> Iterator[asyncio.Event]:
        """The event that the worker's READY=1 sets. Enter before the launch: a fast worker speaks before it returns."""
        event = self._waiting.setdefault(worker_id, asyncio.Event())
        try:
            yield event
        finally:
            if self._waiting.get(worker_id) is event:
                del self._waiting[worker_id]

    def _hear(self, listener: socket.socket) -> None:
        for _ in range(_DATAGRAMS_PER_WAKE_MAX):
            try:
                datagram = listener.recv(_DATAGRAM_BYTES_MAX)
            except (BlockingIOError, InterruptedError):
                return
            worker_id = ready_worker(datagram)
            if worker_id is not None and (event := self._waiting.get(worker_id)):
                event.set()


def ready_worker(datagram: bytes) -> int | None:
    """The worker that says it is ready; None when the datagram says something else, or nothing that can be read."""
    fields = dict(line.split(b"=", 1) for line in datagram.split(b"\n") if b"=" in line)
    number = fields.get(b"STOKER_WORKER_ID", b"")
    # Eighteen digits fit a 64-bit id; converting more would let a sender burn this loop's time.
    if fields.get(b"READY") != b"1" or not number.isdigit() or len(number) > 18:  # noqa: PLR2004
        return None
    return int(number)
