"""The connection to PostgreSQL: one bounded pool a process, autocommit by default so that a statement is a round trip."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Final, LiteralString, TypeVar, TypeVarTuple, Unpack

import psycopg
from psycopg import errors
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from scheduler.errors import Temporary

if TYPE_CHECKING:
    from collections.abc import Iterator

Row = dict[str, Any]
Connection = psycopg.Connection[Row]
Watch = Callable[[str], AbstractContextManager[Any]]  # around each statement, or the whole transaction
T = TypeVar("T")
A = TypeVarTuple("A")

_CLASHES: Final = (errors.SerializationFailure, errors.DeadlockDetected)
_CLASH_TRIES: Final = 5


class Database:
    """A lazily opened pool of connections. Opens nothing until it is asked something; a forked child gets its own."""

    def __init__(
        self,
        dsn: str,
        *,
        connections: int = 16,
        kept_open: int = 0,
        timeout_s: float = 10.0,
        watch: Watch | None = None,
    ) -> None:
        self.dsn = dsn
        self._watch = watch
        self._connections = connections
        self._kept_open = kept_open
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._pool: tuple[int, ConnectionPool[Connection]] | None = None

    def rows(self, sql: LiteralString, /, **values: Any) -> list[Row]:  # noqa: ANN401 - SQL parameters
        """Run one statement in one round trip, committed when it returns; its rows as dictionaries.

        Raises:
            Temporary: PostgreSQL did not answer. An error is no answer: nothing may be concluded from it.
        """
        if self._watch is None:
            return self._try(_execute, sql, values)
        with self._watch(sql):
            return self._try(_execute, sql, values)

    def row(self, sql: LiteralString, /, **values: Any) -> Row | None:  # noqa: ANN401 - SQL parameters
        """The first row of `rows`, or None."""
        found = self.rows(sql, **values)
        return found[0] if found else None

    def transaction(self, work: Callable[[Connection], T]) -> T:
        """Run the work in one transaction; again from its start when it clashed with another, at most five times.

        Raises:
            Temporary: PostgreSQL did not answer, or the clashes did not end.
        """

        def whole(connection: Connection) -> T:
            with connection.transaction():
                return work(connection)

        if self._watch is None:
            return self._try(whole)
        with self._watch("transaction"):
            return self._try(whole)

    def close(self) -> None:
        """Close the connections. The next call opens new ones."""
        with self._lock:
            if self._pool is not None and self._pool[0] == os.getpid():
                self._pool[1].close()
            self._pool = None

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection in autocommit mode, for what `rows` and `transaction` do not cover."""
        with self._open().connection() as connection:
            yield connection

    def _try(self, work: Callable[[Connection, Unpack[A]], T], *args: *A) -> T:
        for attempt in range(1, _CLASH_TRIES + 1):
            try:
                pool = self._open()
                connection = pool.getconn()
                try:
                    return work(connection, *args)
                except errors.FeatureNotSupported:
                    if attempt == _CLASH_TRIES:
                        raise
                    # A later version has migrated the tables, and a statement that was prepared before returns other
                    # columns now. It has not run; on a new connection it is prepared anew.
                    pool.drain()
                finally:
                    pool.putconn(connection)
            except _CLASHES as clash:
                if attempt == _CLASH_TRIES:
                    what = "PostgreSQL: transactions kept clashing"
                    remedy = "try again; if it lasts, look for long locks"
                    raise Temporary(what, got=str(clash).strip(), remedy=remedy) from clash
            except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as broken:
                what = "PostgreSQL did not answer"
                remedy = "check that it runs (`stoker doctor`), then try again"
                raise Temporary(what, got=str(broken).strip(), remedy=remedy) from broken
        raise AssertionError

    def _open(self) -> ConnectionPool[Connection]:
        mine = self._pool
        if mine is not None and mine[0] == os.getpid():
            return mine[1]
        with self._lock:
            if self._pool is None or self._pool[0] != os.getpid():
                # A pool would try for the whole timeout and then not say why: a server that is not there is told at once.
                psycopg.connect(self.dsn, connect_timeout=max(2, round(self._timeout_s))).close()
                pool = ConnectionPool(
                    self.dsn,
                    connection_class=psycopg.Connection[Row],
                    kwargs={
                        "autocommit": True,
                        "row_factory": dict_row,
                        "prepare_threshold": 2,
                        "connect_timeout": max(2, round(self._timeout_s)),
                        "application_name": "stoker",
                    },
                    min_size=self._kept_open,
                    max_size=self._connections,
                    timeout=self._timeout_s,
                    check=_still_open,
                    open=True,
                )
                self._pool = (os.getpid(), pool)
            return self._pool[1]


def _execute(connection: Connection, sql: LiteralString, values: dict[str, Any]) -> list[Row]:
    cursor = connection.execute(sql, values)
    result = cursor.pgresult
    # Not `description`: it describes each column anew, which takes longer than to fetch a row.
    return cursor.fetchall() if result is not None and result.nfields else []


def _still_open(connection: Connection) -> None:
    """Hand out no connection that the server has closed, without the round trip that asking it would cost.

    An idle connection has nothing to say: if it is readable, that is the end of file of a server that restarted.
    """
    if connection.closed or select.select([connection.fileno()], [], [], 0)[0]:
        # The pool takes back whatever still seems to be open, and would hand it out again.
        connection.close()
        what = "the connection was closed"
        raise psycopg.OperationalError(what)
