"""Start a child process that cannot be lost: recorded before it runs, and ended when its starter dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tasks.engines import parent_death
from tasks.engines.identity import ProcessIdentity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

KEEP_ID: Final = -1
NO_SIGNAL: Final = 0


@dataclass(frozen=True)
class User:
    """Whose rights a child has."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Child:
    """A process that this one started."""

    process: subprocess.Popen[bytes]
    identity: ProcessIdentity


def launch(
    argv: Sequence[str],
    *,
    log: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    user: User | None = None,
    death_signal: int = NO_SIGNAL,
    record: Path | None = None,
) -> Child:
    """Start `argv` (its first part a full path) in a session of its own, its output appended to `log`.

    `env` is added to this process's environment. `death_signal` is sent to it when the calling thread ends, for
    whatever reason (Linux; see `parent_death`). `record` gets its identity before its program runs.

    Raises:
        OSError: the log, the record or the process could not be made. A program that cannot run exits with 127.
    """
    who = (user.uid, user.gid) if user else (KEEP_ID, KEEP_ID)
    # -I -S: the step before the program needs no site-packages, and starts in 15 ms without them.
    prefix = (sys.executable, "-I", "-S", parent_death.__file__, str(os.getpid()), str(int(death_signal)))
    with open(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as output:  # noqa: PTH123 - with a mode
        process = subprocess.Popen(  # noqa: S603 - no shell; the program is the caller's
            [*prefix, *map(str, who), *argv],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    try:
        identity = _let_go(process, record, f"{argv[0]} ended before it began; see {log}")
    except BaseException:
        process.kill()
        process.wait()
        raise
    return Child(process, identity)


def end(child: Child, *, polite: int = signal.SIGTERM, grace_s: float) -> bool:
    """Signal the child, wait at most `grace_s`, then kill it. Whether it ended politely; it has ended in any case."""
    child.identity.signal(polite)
    in_time = child.identity.wait(grace_s)
    if not in_time:
        child.identity.signal(signal.SIGKILL)
    child.process.wait()
    return in_time


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message; empty when there is none."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _let_go(process: subprocess.Popen[bytes], record: Path | None, ended: str) -> ProcessIdentity:
    identity = ProcessIdentity.of(process.pid)
    if identity is None or process.stdin is None:
        raise ChildProcessError(ended)
    if record is not None:
        identity.write(record)
    with process.stdin as stdin:
        stdin.write(parent_death.GO)
    return identity
