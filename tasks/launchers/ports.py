"""A loopback port for each worker: the same one for the same worker where possible, never one that is taken."""

from __future__ import annotations

import errno
import socket
import threading
from typing import TYPE_CHECKING, Final

from tasks import processes
from tasks.launchers.base import LaunchTemporary

if TYPE_CHECKING:
    from tasks.processes import Identity

LOOPBACK: Final = "127.0.0.1"
_ATTEMPTS_MAX: Final = 64
# A worker whose port is taken moves far: the next port belongs to the next worker, which is being started right now.
_STRIDE: Final = 769


class Ports:
    """The ports of one range, and who in this process was given which."""

    def __init__(self, first: int, count: int) -> None:
        self._first = first
        self._count = count
        self._lock = threading.Lock()
        self._holders: dict[int, Identity | None] = {}  # None: given, its worker not started yet

    def take(self, worker_id: int) -> int:
        """A port that nobody listens on and that no live worker of ours was given, though it may not listen yet.

        Raises:
            LaunchTemporary: every port tried is taken.
        """
        with self._lock:
            for attempt in range(min(_ATTEMPTS_MAX, self._count)):
                port = self._first + (worker_id - 1 + attempt * _STRIDE) % self._count
                if not self._held(port) and _bindable(port):
                    self._holders[port] = None
                    return port
        last = self._first + self._count - 1
        raise LaunchTemporary(
            f"port for worker {worker_id}",
            f"a free one in {self._first}..{last} on {LOOPBACK}",
            f"{min(_ATTEMPTS_MAX, self._count)} tried, all taken",
            "stop what listens there, or move launcher.process.first_port or raise launcher.process.ports",
        )

    def hold(self, port: int, holder: Identity) -> None:
        """The port belongs to this process for as long as it lives."""
        with self._lock:
            self._holders[port] = holder

    def give_back(self, port: int) -> None:
        """The worker was not started after all."""
        with self._lock:
            self._holders.pop(port, None)

    def _held(self, port: int) -> bool:
        if port not in self._holders:
            return False
        holder = self._holders[port]
        return holder is None or processes.alive(holder)


def _bindable(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the worker will: connections that linger from its predecessor on this port are no conflict.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
    return True
