"""The folders of a deployment: made with the right mode and owner, and never changed when they exist already."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from typing import TYPE_CHECKING

from config.locations import OPEN_PARENT, SHORT_PARENT
from scheduler.errors import Permanent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from config.locations import Locations
    from tasks.engines.launch import User

PRIVATE = 0o700
# Others may pass, to what lies inside and is theirs; they see and touch nothing.
PASSABLE = 0o711


def home_mode() -> int:
    """The mode of a folder that holds what belongs to the user of an engine: root's engines have users of their own."""
    return PASSABLE if os.geteuid() == 0 else PRIVATE


def make_folder(folder: Path, mode: int = PRIVATE, *, owner: User | None = None) -> None:
    """Make the folder if it is missing, and its missing parents, all of `mode`; what exists keeps its mode and owner.

    Raises:
        Permanent: it exists and belongs to somebody who is neither this user nor `owner`, in a place open to all.
    """
    if folder.parent.exists():
        _refuse_a_strangers(folder.parent, owner)
    else:
        make_folder(folder.parent, home_mode())
    try:
        folder.mkdir(mode=PRIVATE)
    except FileExistsError:
        _refuse_a_strangers(folder, owner)
        return
    folder.chmod(mode)  # whatever the umask took
    if owner is not None:
        os.chown(folder, owner.uid, owner.gid)


def make_home(locations: Locations) -> None:
    """Make the state folder with its `run` and `logs`."""
    make_folder(locations.state_dir, home_mode())
    make_folder(locations.run)
    make_folder(locations.logs)


def wipe(locations: Locations) -> None:
    """Remove everything kept for this state folder, wherever it lies. The engines must be stopped."""
    for folder in locations.homes:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def locked(lock: Path) -> Iterator[None]:
    """Hold the lock file; waits for whoever holds it. The system frees it when its holder dies."""
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def locked_at_once(lock: Path) -> Iterator[bool]:
    """Hold the lock file if nobody does; yields whether it is held."""
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _refuse_a_strangers(folder: Path, owner: User | None) -> None:
    # Only where anybody may make a folder can its name be taken first, or be a link to somewhere else.
    if folder.parent not in {SHORT_PARENT, OPEN_PARENT}:
        return
    found = folder.lstat()
    allowed = {os.geteuid()} | ({owner.uid} if owner else set())
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in allowed or found.st_mode & stat.S_IWOTH:
        raise Permanent(
            f"folder {folder} is not ours alone",
            expected=f"a folder of user {os.geteuid()} that others cannot write to",
            got=f"{stat.filemode(found.st_mode)} of user {found.st_uid}",
            remedy="remove it, or choose another state_dir",
        )
