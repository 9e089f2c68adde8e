"""Where callers wait for the end of operations. PostgreSQL tells of it when the transaction that ends one commits.

One thread listens for all callers of a process, on a connection of its own. When that breaks, every caller looks at its
operation again: nothing is asked in a loop, and nothing is lost with Redis.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import psycopg
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.patience import Patience

log = structlog.get_logger(__name__)

CHANNEL: Final = "stoker_operations"
_RECONNECT_S: Final = 0.5
_IDLE_S: Final = 30.0  # a listener without a caller for so long lets its connection go


class Listener:
    """Wakes the callers of this process. Its thread lives while somebody waits, and a little longer."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._lock = threading.Lock()
        self._awaited: dict[int, set[threading.Event]] = {}
        self._thread: threading.Thread | None = None
        self._listening = threading.Event()
        self._closed = threading.Event()

    def wait(self, operation: int, ended: Callable[[], bool], patience: Patience) -> bool:
        """Block until `ended()` says so, asking it when told and when the listener had lost its ear; False: out of time."""
        told = threading.Event()
        with self._lock:
            self._awaited.setdefault(operation, set()).add(told)
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="stoker-listener", daemon=True)
                self._thread.start()
        try:
            # Heard from here on; what ended before is seen by asking.
            if not self._listening.wait(patience.left_s()):
                return ended()
            with patience.woken_by(told.set):
                while not ended():
                    if not told.wait(patience.left_s()):
                        return ended()
                    told.clear()
            return True
        finally:
            with self._lock:
                events = self._awaited[operation]
                events.discard(told)
                if not events:
                    del self._awaited[operation]

    def close(self) -> None:
        """Let the connection go, within a second of the last caller's leaving. Who waits later opens another."""
        self._closed.set()

    def _listen(self) -> None:
        while True:
            try:
                with psycopg.connect(self._dsn, autocommit=True, connect_timeout=5) as connection:
                    connection.execute(f"listen {CHANNEL}")
                    self._listening.set()
                    self._tell_all()
                    if self._hear(connection):
                        return
            except psycopg.Error as error:
                self._listening.clear()
                if self._closed.is_set():
                    with self._lock:
                        self._thread = None
                    return
                log.warning("operations are not heard of; connects again", error=str(error).strip())
                self._closed.wait(_RECONNECT_S)

    def _hear(self, connection: psycopg.Connection[tuple[object, ...]]) -> bool:
        """Tell callers of what ends, until nobody has waited for a while: then True, and the thread is over."""
        while True:
            for notice in connection.notifies(timeout=1.0 if self._closed.is_set() else _IDLE_S, stop_after=1):
                with self._lock:
                    for told in self._awaited.get(int(notice.payload), ()):
                        told.set()
            with self._lock:
                if not self._awaited:
                    self._listening.clear()
                    self._thread = None
                    return True

    def _tell_all(self) -> None:
        with self._lock:
            for events in self._awaited.values():
                for told in events:
                    told.set()
