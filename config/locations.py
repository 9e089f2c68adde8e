"""Where one deployment keeps its state on this machine: every path and URL follows from the state folder alone."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

# sockaddr_un.sun_path is 108 bytes on Linux and 104 on macOS, with the closing NUL.
SOCKET_PATH_MAX_BYTES: Final = 103
POSTGRES_SOCKET_NAME: Final = ".s.PGSQL.5432"
POSTGRES_ROLE: Final = "stoker"
POSTGRES_DATABASE: Final = "stoker"

# Where a socket goes whose path would be too long, and where root's PostgreSQL (which runs as `nobody`) keeps its data
# when `nobody` cannot reach the state folder. Both are open to all, so whoever makes a folder there verifies its owner.
SHORT_PARENT: Final = Path("/tmp")  # noqa: S108 - its folders are made 0700 or 0711, and refused if somebody else owns them
OPEN_PARENT: Final = Path("/var/tmp")  # noqa: S108 - as above


@dataclass(frozen=True)
class Locations:
    """The folders, sockets and URLs of one state folder. Any process of the same user computes the same ones."""

    state_dir: Path
    postgres_data: Path
    postgres_socket_dir: Path
    valkey_data: Path
    valkey_socket: Path
    logs: Path
    run: Path

    @classmethod
    def under(cls, state_dir: Path) -> Self:
        """The locations of `state_dir`, which need not exist yet.

        They lie inside it but for two cases: sockets whose path would be too long, and the PostgreSQL of root where a
        parent of `state_dir` is closed to others. Folders that exist are looked at, never changed.
        """
        root = state_dir.resolve()
        uid = os.geteuid()
        digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:12]
        short = SHORT_PARENT / f"stoker-{uid}-{digest}"

        run = root / "run"
        postgres = root / "postgres"
        if uid == 0 and not reachable_by_others(root):
            postgres = OPEN_PARENT / f"stoker-{digest}"
        socket_dir = postgres / "socket"
        if not _is_socket_path(socket_dir / POSTGRES_SOCKET_NAME):
            socket_dir = short / "postgres"
        valkey_socket = run / "valkey.sock"
        if not _is_socket_path(valkey_socket):
            valkey_socket = short / "valkey.sock"
        return cls(
            state_dir=root,
            postgres_data=postgres / "data",
            postgres_socket_dir=socket_dir,
            valkey_data=root / "valkey",
            valkey_socket=valkey_socket,
            logs=root / "logs",
            run=run,
        )

    @property
    def database_url(self) -> str:
        """The embedded PostgreSQL, as libpq and psycopg read it."""
        return f"postgresql://{POSTGRES_ROLE}@/{POSTGRES_DATABASE}?host={quote(str(self.postgres_socket_dir), safe='')}"

    @property
    def redis_url(self) -> str:
        """The embedded Valkey, as Celery and kombu read it."""
        return f"redis+socket://{quote(str(self.valkey_socket))}?virtual_host=0"

    @property
    def redis_client_url(self) -> str:
        """The embedded Valkey, as redis-py reads it."""
        return f"unix://{quote(str(self.valkey_socket))}?db=0"

    @property
    def homes(self) -> tuple[Path, ...]:
        """The topmost folders that belong to this state folder alone: removing them removes every trace of it."""
        inside = (self.postgres_data.parent, self.postgres_socket_dir.parent, self.valkey_socket.parent)
        outside = {folder for folder in inside if not folder.is_relative_to(self.state_dir)}
        return (self.state_dir, *sorted(outside))


def reachable_by_others(path: Path) -> bool:
    """Whether a user with no rights but those of everybody can pass through `path` and each of its parents.

    A folder that does not exist yet counts as passable: Stoker makes its own so.
    """
    return all(_mode(folder) & 0o001 for folder in (path, *path.parents))


def _mode(folder: Path) -> int:
    try:
        return folder.stat().st_mode
    except FileNotFoundError:
        return 0o711


def _is_socket_path(path: Path) -> bool:
    # libpq reads a comma as the end of one host and the start of the next.
    return len(os.fsencode(path)) <= SOCKET_PATH_MAX_BYTES and "," not in str(path)
