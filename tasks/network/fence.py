"""One call at a time for one network of one node, whichever process makes it; and the files that it keeps there."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from scheduler.errors import Temporary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_WAIT_S: Final = 20.0  # longer than a call's own timeouts add up to when all goes well
_POLL_S: Final = 0.01


@dataclass(frozen=True)
class Held:
    """A network of a node while nobody else is at it."""

    folder: Path  # exists
    lock: int  # the descriptor that holds it, and so does every process that inherits it


@dataclass(frozen=True)
class Fence:
    """Locks and folders under one state folder. The kernel frees a lock when its holder dies, however it dies."""

    state_dir: Path

    def folder(self, node: str, vni: int) -> Path:
        """Where the driver keeps the files of a network of a node. Need not exist."""
        return self.state_dir / node / f"{vni:06x}"

    @contextmanager
    def held(self, node: str, vni: int) -> Iterator[Held]:
        """Be alone with a network of a node."""
        folder = self.folder(node, vni)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = _locked(folder.with_suffix(".lock"), f"network {vni} on node {node}")
        try:
            folder.mkdir(mode=0o700, exist_ok=True)  # the holder before may have deleted the network
            yield Held(folder, fd)
        finally:
            os.close(fd)

    def forget(self, node: str, vni: int) -> None:
        """Remove the files of a network of a node. Only while it is held."""
        folder = self.folder(node, vni)
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".lock").unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> bool:
    """Make the file hold this text, all of it or what it held before; False when it did already."""
    with suppress(FileNotFoundError):
        if path.read_text(encoding="utf-8") == text:
            return False
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
    return True


def _locked(path: Path, what: str) -> int:
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever deletes a network unlinks its lock: a lock on what is no longer there keeps nobody out.
            if _same_file(fd, path):
                return fd
        except BlockingIOError:
            time.sleep(_POLL_S)
        os.close(fd)
    raise Temporary(what, expected=f"the call that holds it to end within {_WAIT_S:g} s", got="a lock still held")


def _same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
