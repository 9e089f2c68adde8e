"""Which process a number means: a pid is reused, a pid with its start time on its boot is not."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import psutil

# Field 22 of /proc/PID/stat does not move when somebody sets the wall clock; psutil's create_time does.
LINUX: Final = sys.platform == "linux"
_DEAD_STATES: Final = frozenset({"Z", "X", "x"})


@dataclass(frozen=True)
class Identity:
    """One process, for ever: equal only if number, start, boot and pid namespace are."""

    pid: int
    started: str


@dataclass(frozen=True)
class Process:
    """What is known of a process that exists."""

    identity: Identity
    parent_pid: int
    session: int
    zombie: bool
    age_s: float


def look(pid: int) -> Process | None:
    """The process with this number now, zombies included; None when there is none or it cannot be seen."""
    return _look_linux(pid) if LINUX else _look_anywhere(pid)


def alive(identity: Identity) -> bool:
    """Whether exactly this process runs. A zombie does not: it holds a number and nothing else."""
    process = look(identity.pid)
    return process is not None and process.identity == identity and not process.zombie


def pids() -> list[int]:
    """The numbers of all processes that can be seen."""
    if not LINUX:
        return psutil.pids()
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - thousands, and only names


def _look_linux(pid: int) -> Process | None:
    try:
        # Through os, not pathlib: a pool of thousands is read in one go.
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            line = os.read(fd, 4096)
        finally:
            os.close(fd)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The command name is in parentheses and may hold anything, a parenthesis too: count from the last one.
    fields = line[line.rindex(b")") + 2 :].split()
    ticks = int(fields[19])
    return Process(
        identity=Identity(pid, f"{ticks}@{_boot()}"),
        parent_pid=int(fields[1]),
        session=int(fields[3]),
        zombie=fields[0].decode() in _DEAD_STATES,
        age_s=max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / _ticks_per_second()),
    )


def _look_anywhere(pid: int) -> Process | None:
    try:
        found = psutil.Process(pid)
        with found.oneshot():
            created = found.create_time()
            return Process(
                identity=Identity(pid, f"{created:.3f}"),
                parent_pid=found.ppid(),
                session=os.getsid(pid),
                zombie=found.status() == psutil.STATUS_ZOMBIE,
                age_s=max(0.0, time.time() - created),
            )
    except (psutil.Error, OSError):
        return None


@cache
def _ticks_per_second() -> int:
    return os.sysconf("SC_CLK_TCK")


@cache
def _boot() -> str:
    # Start ticks count from boot, and containers of one kernel share its boot id but number their processes apart.
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
