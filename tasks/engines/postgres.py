"""The embedded PostgreSQL: the truth, without a server to install."""

from __future__ import annotations

import os
import shutil
import signal
import time
from typing import TYPE_CHECKING, Final

import psutil
import psycopg
from psycopg import sql

from config.locations import POSTGRES_DATABASE, POSTGRES_ROLE, POSTGRES_SOCKET_NAME
from scheduler.errors import Permanent
from tasks.engines.binaries import POSTGRES_MAJOR, postgres_programs, postgres_user
from tasks.engines.folders import home_mode, make_folder
from tasks.engines.identity import ProcessIdentity
from tasks.engines.launch import launch, tail
from tasks.engines.server import START_S_MAX, STOP_S_MAX, EmbeddedServer

if TYPE_CHECKING:
    from pathlib import Path

    from config.locations import Locations

CONNECT_TIMEOUT_S: Final = 2

SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    # Short statements on small tables: neither pays for what it costs to start.
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    # Slots and tickets are updated all the time; a table that is vacuumed once a minute bloats in between.
    "autovacuum_naptime": "10s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}
# Enough to survive the death of the server, not that of the machine.
VOLATILE_SETTINGS: Final = {"fsync": "off", "full_page_writes": "off"}


class EmbeddedPostgres(EmbeddedServer):
    """A real PostgreSQL on a unix socket of its own user alone; no TCP port, no password.

    As root it runs as `nobody`. Other programs that run as `nobody` on this machine could then reach it: the embedded
    engine is for one machine and one team; a deployment sets STOKER_DATABASE_URL.
    """

    name = "postgres"
    polite_signal = signal.SIGINT  # "fast": ends sessions, writes a checkpoint
    death_signal = signal.SIGQUIT  # "immediate": gone within 5 s whatever its clients do; recovers at the next start

    def __init__(self, locations: Locations, *, durable: bool = True, die_with_parent: bool = True) -> None:
        super().__init__(locations, durable=durable, die_with_parent=die_with_parent)
        self.user = postgres_user()

    @property
    def _cwd(self) -> Path:
        return self.locations.postgres_data

    def _prepare(self) -> list[str]:
        data, sockets = self.locations.postgres_data, self.locations.postgres_socket_dir
        programs = postgres_programs(self.user)
        make_folder(data.parent, home_mode())
        make_folder(sockets, owner=self.user)
        if not data.exists():
            self._initdb(programs / "initdb")
        self._refuse_another_major()
        settings = {
            **SETTINGS,
            # A list of folders: quoted, a name may hold spaces.
            "unix_socket_directories": '"{}"'.format(str(sockets).replace('"', '""')),
            **({} if self.durable else VOLATILE_SETTINGS),
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [str(programs / "postgres"), "-D", str(data), *options]

    def _initdb(self, initdb: Path) -> None:
        """Make the data folder beside its place and move it there: killed half-way, it leaves nothing half made."""
        data = self.locations.postgres_data
        for half_made in data.parent.glob(f"{data.name}.new-*"):
            shutil.rmtree(half_made, ignore_errors=True)
        new = data.with_name(f"{data.name}.new-{os.getpid()}")
        make_folder(new, owner=self.user)
        log = self.locations.logs / "initdb.log"
        command = [str(initdb), "-D", str(new), "-U", POSTGRES_ROLE, "-A", "trust", "-E", "UTF8", "--locale=C"]
        command += ["--no-instructions", *([] if self.durable else ["--no-sync"])]
        child = launch(command, log=log, cwd=new, user=self.user, death_signal=signal.SIGKILL)
        if not child.identity.wait(START_S_MAX):
            child.identity.signal(signal.SIGKILL)
        if child.process.wait() != 0:
            raise Permanent(
                f"initdb could not make {data}",
                got=f"exit {child.process.returncode}, and at the end of {log}:\n{tail(log)}\n",
                remedy="mend what it names, or set STOKER_DATABASE_URL to a PostgreSQL >= 15",
            )
        new.rename(data)

    def _refuse_another_major(self) -> None:
        data = self.locations.postgres_data
        found = (data / "PG_VERSION").read_text(encoding="ascii").strip()
        if found != str(POSTGRES_MAJOR):
            raise Permanent(
                f"the data in {data} is of another PostgreSQL",
                expected=f"version {POSTGRES_MAJOR}",
                got=found,
                remedy=f"dump it with version {found} and restore it, or remove the folder to begin anew",
            )

    def _answers(self) -> bool:
        try:
            with self._connect():
                return True
        except psycopg.OperationalError:  # not there yet, or still recovering
            return False

    def _furnish(self) -> None:
        with self._connect() as connection:
            found = connection.execute("select 1 from pg_database where datname = %s", [POSTGRES_DATABASE])
            if found.fetchone() is None:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(POSTGRES_DATABASE)))

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        # To the database that every cluster has: ours is made through it.
        return psycopg.connect(
            self.locations.database_url, dbname="postgres", connect_timeout=CONNECT_TIMEOUT_S, autocommit=True
        )

    def _clear_remains(self) -> None:
        for name in (POSTGRES_SOCKET_NAME, f"{POSTGRES_SOCKET_NAME}.lock"):
            (self.locations.postgres_socket_dir / name).unlink(missing_ok=True)
        self._disown_lock_file()

    def _end_orphans(self) -> None:
        """End the backends of a server that was killed: while one lives, PostgreSQL rightly refuses to start."""
        data = self.locations.postgres_data
        if not (data / "postmaster.pid").exists():
            return
        orphans = [identity for pid in _processes_in(data) if (identity := ProcessIdentity.of(pid)) is not None]
        deadline = time.monotonic() + STOP_S_MAX
        for signum in (signal.SIGQUIT, signal.SIGKILL):
            for orphan in orphans:
                orphan.signal(signum)
            orphans = [orphan for orphan in orphans if not orphan.wait(deadline - time.monotonic())]
            deadline += STOP_S_MAX

    def _disown_lock_file(self) -> None:
        """Put our own number into the lock file of a dead server.

        PostgreSQL takes any process that has the old number for a rival. Its starter's number it knows to be none, and
        the rest of the file, by which it recognises shared memory still in use, keeps its meaning.
        """
        lock = self.locations.postgres_data / "postmaster.pid"
        if lock.exists():
            _, _, rest = lock.read_text(encoding="utf-8").partition("\n")
            lock.write_text(f"{os.getpid()}\n{rest}", encoding="utf-8")


def _processes_in(folder: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder):
                found.append(process.pid)
        except psutil.Error:  # gone, or not ours to look at
            continue
    return found
