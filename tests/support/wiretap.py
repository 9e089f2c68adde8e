"""Counts round trips to PostgreSQL where they cannot be argued with: on the wire, between client and server."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

_SYNC, _QUERY = b"S", b"Q"  # the client's two ways to say: now answer
_PORT = 5432


class Wiretap:
    """A relay on a unix socket. Each Sync or simple Query of a client is one round trip."""

    def __init__(self, url: str, folder: Path) -> None:
        self._target = conninfo_to_dict(url)
        self._lock = threading.Lock()
        self._count = 0
        self._sockets: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / f".s.PGSQL.{_PORT}"))
        self._listener.listen()
        parts = self._target
        password = f":{quote(str(parts['password']))}" if parts.get("password") else ""
        self.url = (
            f"postgresql://{quote(str(parts['user']))}{password}@/{parts['dbname']}"
            f"?host={quote(str(folder), safe='')}&port={_PORT}"
        )
        threading.Thread(target=self._accept, name="wiretap", daemon=True).start()

    @property
    def round_trips(self) -> int:
        with self._lock:
            return self._count

    @contextmanager
    def counting(self) -> Iterator[list[int]]:
        """Appends the round trips of the block to the list when it ends."""
        counted: list[int] = []
        before = self.round_trips
        yield counted
        counted.append(self.round_trips - before)

    def close(self) -> None:
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
                for source, sink, watch in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._relay, args=(source, sink, watch), daemon=True).start()

    def _connect(self) -> socket.socket:
        host, port = str(self._target["host"]), int(self._target.get("port") or _PORT)
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _relay(self, source: socket.socket, sink: socket.socket, watch: bool) -> None:  # noqa: FBT001 - a thread's argument
        # The first message has a length and no type; each other has a type of one byte and a length.
        pending, head = b"", 0
        with suppress(OSError):
            while chunk := source.recv(65_536):
                if watch:
                    pending += chunk
                    while len(pending) >= head + 4:
                        size = head + int.from_bytes(pending[head : head + 4])
                        if len(pending) < size:
                            break
                        if head and pending[:1] in {_SYNC, _QUERY}:
                            with self._lock:
                                self._count += 1
                        pending, head = pending[size:], 1
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def tapped(url: str) -> Iterator[Wiretap]:
    """A relay to this database for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="tap-") as folder, closing(Wiretap(url, Path(folder))) as tap:
        yield tap
