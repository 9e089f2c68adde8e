"""The mark that every worker process and its children carry in their environment, and the search for it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psutil

from tasks import processes

if TYPE_CHECKING:
    from tasks.processes import Identity, Process

POOL: Final = "STOKER_POOL_ID"
WORKER: Final = "STOKER_WORKER_ID"
ENDPOINT: Final = "STOKER_ENDPOINT"
NODE: Final = "STOKER_NODE"
PORT: Final = "STOKER_PORT"
ACTIVATION_KEY: Final = "STOKER_ACTIVATION_KEY"

_ENVIRONMENT_BYTES_MAX: Final = 2**20
_MARK_S_MAX: Final = 1.0  # one that became another user's never shows it
_MARK_POLL_S: Final = 0.0002


@dataclass(frozen=True)
class Marked:
    """A process that a worker of the pool is, or that one started."""

    worker_id: int
    process: Process
    endpoint: str
    node: str


def marked(pool_id: str, worker_id: int | None = None) -> list[Marked]:
    """All running processes with the mark of the pool (and of one worker), oldest first.

    What cannot be read (other users' processes) is skipped. A worker that overwrites its own environment, as
    setproctitle does, hides from this search; its handle still finds it.
    """
    found = [seen for pid in processes.pids() if (seen := _read(pid, pool_id, worker_id)) is not None]
    return sorted(found, key=lambda seen: seen.process.age_s, reverse=True)


def await_mark(identity: Identity) -> None:
    """Return once a process that was just started can be found by its mark, or is gone: microseconds, mostly.

    The kernel lets the parent of a new program go on before that program's environment is in place (measured: in one
    start of six, for up to 20 ms). A search in between would miss the worker, and somebody would launch it twice.
    """
    deadline = time.monotonic() + _MARK_S_MAX
    while processes.alive(identity) and time.monotonic() < deadline and _environment(identity.pid, POOL) is None:
        time.sleep(_MARK_POLL_S)


def workers(pool_id: str, worker_id: int | None = None) -> list[Marked]:
    """Of the marked processes those whose parent does not carry the same mark; one a worker, the oldest."""
    everything = marked(pool_id, worker_id)
    worker_of = {seen.process.identity.pid: seen.worker_id for seen in everything}
    mains: dict[int, Marked] = {}
    for seen in everything:
        if worker_of.get(seen.process.parent_pid) != seen.worker_id:
            mains.setdefault(seen.worker_id, seen)
    return list(mains.values())


def _read(pid: int, pool_id: str, worker_id: int | None) -> Marked | None:
    # The process is looked at before its environment: if the number changes hands in between, the identity is the dead
    # one's, and every use of it checks that first.
    environment = _environment(pid, f"{POOL}={pool_id}")
    if environment is None or environment.get(POOL) != pool_id:
        return None
    number = environment.get(WORKER, "")
    if not number.isdecimal() or worker_id not in {None, int(number)}:
        return None
    process = processes.look(pid)
    if process is None or process.zombie or pid == os.getpid():
        return None
    return Marked(int(number), process, environment.get(ENDPOINT, ""), environment.get(NODE, ""))


def _environment(pid: int, needle: str) -> dict[str, str] | None:
    if not processes.LINUX:
        try:
            return psutil.Process(pid).environ()
        except (psutil.Error, OSError):
            return None
    try:
        fd = os.open(f"/proc/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        raw = _read_all(fd)
    except OSError:
        return None
    finally:
        os.close(fd)
    # Decoding every environment of the machine to find a few would be most of the cost.
    if os.fsencode(needle) not in raw:
        return None
    return dict(entry.split("=", 1) for entry in os.fsdecode(raw).split("\0") if "=" in entry)


def _read_all(fd: int) -> bytes:
    chunks = []
    size = 0
    while size < _ENVIRONMENT_BYTES_MAX and (chunk := os.read(fd, 65_536)):
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)
