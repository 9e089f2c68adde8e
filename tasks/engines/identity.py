"""A process named so that another one, given the same number later, is never mistaken for it."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import sys
from typing import TYPE_CHECKING, Final, Self

from tasks import processes
from tasks.processes import Identity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PORTABLE_WAIT_STEP_S: Final = 0.05


class ProcessIdentity(Identity):
    """An identity that can be written down, signalled and waited for."""

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has this number now; None if there is none or it has ended and only waits to be reaped."""
        found = processes.look(pid)
        return None if found is None or found.zombie else cls(pid, found.identity.started)

    @classmethod
    def read(cls, record: Path) -> Self | None:
        """The process written down in that file; None if there is no such file or it names no process."""
        try:
            pid, _, started = record.read_text(encoding="ascii").strip().partition(" ")
            return cls(int(pid), started)
        except (FileNotFoundError, ValueError):
            return None

    def write(self, record: Path) -> None:
        """Write it down, whole or not at all."""
        new = record.with_name(record.name + ".new")
        new.write_text(f"{self.pid} {self.started}\n", encoding="ascii")
        new.replace(record)

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return processes.alive(Identity(self.pid, self.started))

    def signal(self, signum: int) -> bool:
        """Send a signal; False when the process is gone. Another process with its number is never signalled."""
        with _pidfd(self.pid) as pidfd:
            # Asked once the handle is open: from then on the handle means this process, whoever gets the number next.
            if not self.alive():
                return False
            try:
                if pidfd is None:
                    os.kill(self.pid, signum)
                else:
                    signal.pidfd_send_signal(pidfd, signum)
            except ProcessLookupError:
                return False
            return True

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until it has ended, at most `timeout_s` (None: however long); whether it has. It need not be a child."""
        with _pidfd(self.pid) as pidfd:
            if not self.alive():
                return True
            if pidfd is None:
                return self._wait_in_steps(timeout_s)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            return bool(poll.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000))

    def _wait_in_steps(self, timeout_s: float | None) -> bool:
        for step in itertools.count(1):
            select.select([], [], [], PORTABLE_WAIT_STEP_S)
            if not self.alive():
                return True
            if timeout_s is not None and step * PORTABLE_WAIT_STEP_S >= timeout_s:
                break
        return False


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int | None]:
    """A handle on the process; None where the system has none to give or the process is gone."""
    if sys.platform != "linux":
        yield None
        return
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:  # gone, or a sandbox that forbids the call
        yield None
        return
    try:
        yield pidfd
    finally:
        os.close(pidfd)
