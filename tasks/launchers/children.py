"""The worker processes that this process started itself: only their parent can reap them and learn how they ended."""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from tasks import processes
from tasks.processes import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_ENDED_MAX: Final = 1_024


class _Children:
    # Of the process, not of a launcher: a child stays a child when the launcher object that started it is gone.
    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        # After a fork they are somebody else's children, and another thread may have held the lock at that instant.
        self.lock = threading.Lock()
        self.started: dict[Identity, subprocess.Popen[bytes]] = {}
        self.ended: dict[Identity, subprocess.Popen[bytes]] = {}  # oldest first


_children: Final = _Children()
os.register_at_fork(after_in_child=_children.forget)


def start(argv: Sequence[str], environment: Mapping[str, str], log: IO[bytes], nice: int) -> Identity:
    """Start a process in a session of its own, deaf to this one's terminal and end. `nice` lowers its priority; 0 leaves it.

    Raises:
        OSError: it could not be started.
    """
    child = subprocess.Popen(  # noqa: S603 - the operator's own command, as an argument list, no shell
        list(argv),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        close_fds=True,
        start_new_session=True,
    )
    if nice:
        _stand_back(child.pid, nice)
    # Looked at before it is registered: until then nobody reaps it, so even one that died at once has a start.
    process = processes.look(child.pid)
    identity = process.identity if process else Identity(child.pid, "unknown")
    with _children.lock:
        _children.started[identity] = child
    return identity


def _stand_back(pid: int, nice: int) -> None:
    # It may be gone already; and of others than root Linux takes the priority of a session ten times a second at most.
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0) + nice)
    # Linux may share processors between sessions first: the priority of a process then counts in its own session alone.
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(f"{nice}", encoding="ascii")


def get(identity: Identity) -> subprocess.Popen[bytes] | None:
    """The child of that identity, even reaped; None when somebody else started it, or it ended long ago."""
    with _children.lock:
        return _children.started.get(identity) or _children.ended.get(identity)


def reap() -> None:
    """Collect the children that ended, so that none stays a zombie. Never blocks."""
    with _children.lock:
        for identity in [identity for identity, child in _children.started.items() if child.poll() is not None]:
            # Kept for a while: one that died at once is often reaped before anybody asks how it ended.
            _children.ended[identity] = _children.started.pop(identity)
        while len(_children.ended) > _ENDED_MAX:
            del _children.ended[next(iter(_children.ended))]
