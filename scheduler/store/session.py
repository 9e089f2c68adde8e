"""One connection that is held: it hears what others commit, and the database knows by it that its process lives."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Final, TypeVar

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from scheduler.errors import Temporary
from scheduler.store.database import Row

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg import Notify

    from scheduler.store.database import Connection

T = TypeVar("T")

_CONNECT_S: Final = 2


class Session:
    """Connects when it is first used, and anew after an error: whatever the session held is then gone."""

    def __init__(self, dsn: str, channel: str, *, answer_s: float) -> None:
        self._dsn = dsn
        self._channel = channel
        self._answer_ms = round(
            answer_s * 1000
        )  # a statement that takes longer is given up, and so is a silent network
        self._connection: Connection | None = None
        self._called = False

    @property
    def is_open(self) -> bool:
        """Whether it still is the one that it was."""
        return self._connection is not None

    def run(self, work: Callable[[Connection], T]) -> T:
        """Each statement of the work is committed when it returns.

        Raises:
            Temporary: PostgreSQL did not answer. The session is over.
        """
        try:
            return work(self._connection or self._connect())
        except (psycopg.OperationalError, psycopg.InterfaceError) as broken:
            self.close()
            raise Temporary(
                "PostgreSQL did not answer",
                got=str(broken).strip(),
                remedy="check that it runs (`stoker doctor`)",
            ) from broken

    def wait(self, timeout_s: float) -> None:
        """Until somebody commits what this listens for, or the server closes; at most so long. It may end early."""
        if self._connection is not None and not self._called:
            # Not psycopg's own wait: a signal ends this one at once.
            select.select([self._connection.fileno()], [], [], max(0.0, timeout_s))
        self._called = False

    def close(self) -> None:
        """End the session. A later use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self) -> Connection:
        connection = psycopg.Connection[Row].connect(
            self._dsn,
            autocommit=True,
            row_factory=dict_row,
            prepare_threshold=2,
            connect_timeout=_CONNECT_S,
            application_name="stoker beat",
            keepalives_idle=_CONNECT_S,
            keepalives_interval=1,
            tcp_user_timeout=self._answer_ms,
        )
        try:
            connection.add_notify_handler(self._hear)
            connection.execute(sql.SQL("set statement_timeout = {}").format(self._answer_ms))
            connection.execute(sql.SQL("listen {}").format(sql.Identifier(self._channel)))
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _hear(self, _: Notify) -> None:
        self._called = True
