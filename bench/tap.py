"""Counts what processes ask of PostgreSQL where nothing is missed: on the wire, between them and the server."""

from __future__ import annotations

import socket
import tempfile
import threading
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

if TYPE_CHECKING:
    from collections.abc import Iterator

# By their type's byte. Execute is a statement with arguments, Query one without; Sync and Query ask for an answer.
_STATEMENTS: Final = b"EQ"
_TRIPS: Final = b"SQ"
_PORT: Final = 5432
_CHUNK: Final = 65_536


@dataclass(frozen=True)
class Asked:
    """What went through. Begin and commit are statements too."""

    statements: int
    round_trips: int

    def __sub__(self, before: Asked) -> Asked:
        return Asked(self.statements - before.statements, self.round_trips - before.round_trips)


class Tap:
    """A relay to a database, on a unix socket of its own; `url` leads through it."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self._target = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(_STATEMENTS + _TRIPS, 0)
        self._sockets: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / f".s.PGSQL.{_PORT}"))
        self._listener.listen()
        user, password = quote(self._target["user"]), quote(self._target.get("password", ""))
        place = f"host={quote(str(folder), safe='')}&port={_PORT}"
        self.url = f"postgresql://{user}{password and ':' + password}@/{self._target['dbname']}?{place}"
        threading.Thread(target=self._accept, name="bench-tap", daemon=True).start()

    @property
    def asked(self) -> Asked:
        """All that went through so far."""
        with self._lock:
            return Asked(sum(self._counts[one] for one in _STATEMENTS), sum(self._counts[one] for one in _TRIPS))

    def close(self) -> None:
        """Cut all that goes through."""
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = self._connect()
                self._sockets += [client, server]
                threading.Thread(target=self._relay_counting, args=(client, server), daemon=True).start()
                threading.Thread(target=_relay, args=(server, client), daemon=True).start()

    def _connect(self) -> socket.socket:
        host, port = self._target["host"], int(self._target.get("port") or _PORT)
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _relay_counting(self, client: socket.socket, server: socket.socket) -> None:
        # The first message is a length and what it counts; each other has a type of one byte before that.
        pending, head = b"", 0
        with suppress(OSError):
            while chunk := client.recv(_CHUNK):
                pending += chunk
                while len(pending) >= head + 4 and len(pending) >= (
                    size := head + int.from_bytes(pending[head : head + 4])
                ):
                    if head and pending[0] in self._counts:
                        with self._lock:
                            self._counts[pending[0]] += 1
                    pending, head = pending[size:], 1
                server.sendall(chunk)
            server.shutdown(socket.SHUT_WR)


def _relay(server: socket.socket, client: socket.socket) -> None:
    with suppress(OSError):
        while chunk := server.recv(_CHUNK):
            client.sendall(chunk)
        client.shutdown(socket.SHUT_WR)


@contextmanager
def tapped(dsn: str) -> Iterator[Tap]:
    """A relay for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="stoker-tap-") as folder, closing(Tap(dsn, Path(folder))) as tap:
        yield tap
