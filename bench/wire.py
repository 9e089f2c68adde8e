"""Counts what goes over a connection to PostgreSQL, by libpq's own trace of it: nothing is missed, nothing is guessed."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from psycopg import NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

# A line a message: time, F (from us) or B, length, name. Execute is a statement with arguments, Query one without.
_STATEMENTS: Final = frozenset({"Execute", "Query"})
_TRIPS: Final = frozenset({"Sync", "Query"})


@dataclass
class Traffic:
    """What one connection was asked for. None: this libpq cannot say (it can on Linux)."""

    statements: int | None = None  # begin and commit are statements too
    round_trips: int | None = None


@contextmanager
def counted(connection: psycopg.Connection[Any]) -> Iterator[Traffic]:
    """Count until the block ends; the counts are there then."""
    traffic = Traffic()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as trace:
        try:
            connection.pgconn.trace(trace.fileno())
        except NotSupportedError:
            yield traffic
            return
        try:
            yield traffic
        finally:
            connection.pgconn.untrace()
        trace.seek(0)
        fields = [line.rstrip("\n").split("\t") for line in trace]
        sent = [line[3] for line in fields if len(line) > 3 and line[1] == "F"]
        traffic.statements = sum(name in _STATEMENTS for name in sent)
        traffic.round_trips = sum(name in _TRIPS for name in sent)
