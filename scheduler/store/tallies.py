"""Counters and histograms in SQL: they go on where they were, whichever process counts, ends or is started anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString, NamedTuple

from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from collections.abc import Collection

    from scheduler.store.database import Connection, Database

_ADD: LiteralString = "select tally(%(rows)s)"


class Tally(NamedTuple):
    """So many observations of one series, up to one edge; what they add up to. No edge: it has no size, or is beyond all."""

    metric: str
    labels: dict[str, str]
    edge: float | None
    many: int
    total: float = 0.0


def add(db: Database, seen: Collection[Tally]) -> None:
    """Add to what there is.

    Raises:
        Temporary: the database did not answer; whether it has added them is not known, but most likely not.
    """
    db.rows(_ADD, rows=_rows(seen))


def add_within(connection: Connection, seen: Collection[Tally]) -> None:
    """Add to what there is, if all else of the transaction comes to be."""
    connection.execute(_ADD, {"rows": _rows(seen)})


def count_ended(db: Database, at_most: int) -> int:
    """Count the runs and operations that have ended since anybody did, the first of each; how many those were."""
    row = db.row("select count_ended(%(most)s) as many", most=at_most)
    return 0 if row is None else int(row["many"])


def read(db: Database) -> list[Tally]:
    """All there is."""
    rows = db.rows("select metric, labels, nullif(edge, 'infinity') as edge, many, total from tallies order by 1, 2, 3")
    return [Tally(**row) for row in rows]


def _rows(seen: Collection[Tally]) -> Jsonb:
    return Jsonb([one._asdict() for one in seen])
