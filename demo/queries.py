"""What the tenants ask of their workers, and the right answers, computed apart from the workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import duckdb

if TYPE_CHECKING:
    from pathlib import Path

# Published with the data: whatever else agrees with itself, this many flights left New York in 2013.
FLIGHTS_IN_2013: Final = 336_776


@dataclass(frozen=True, slots=True)
class Question:
    """A query, and what it asks in words."""

    asks: str
    sql: str


QUESTIONS: Final = (
    Question("how many flights were there?", "SELECT count(*) FROM flights"),
    Question(
        "which routes are flown most?",
        "SELECT origin, dest, count(*) AS flights FROM flights GROUP BY ALL ORDER BY flights DESC, origin, dest LIMIT 10",
    ),
    Question(
        "which airline is late how often?",
        "SELECT a.name, count(*) FILTER (f.arr_delay > 15) AS late, count(*) AS flights"
        " FROM flights f JOIN airlines a USING (carrier) GROUP BY a.name ORDER BY late DESC, a.name",
    ),
    Question(
        "which hour of the day loses most minutes?",
        "SELECT hour, sum(dep_delay)::BIGINT AS minutes FROM flights WHERE dep_delay > 0 GROUP BY hour"
        " ORDER BY minutes DESC, hour LIMIT 5",
    ),
    Question(
        "which plane flew farthest, and who made it?",
        "SELECT f.tailnum, p.manufacturer, sum(f.distance)::BIGINT AS miles FROM flights f JOIN planes p USING (tailnum)"
        " GROUP BY ALL ORDER BY miles DESC, f.tailnum LIMIT 5",
    ),
    Question(
        "what was the worst day of each month?",
        "SELECT month, day, cancelled FROM (SELECT month, day, count(*) FILTER (dep_time IS NULL) AS cancelled,"
        " row_number() OVER (PARTITION BY month ORDER BY count(*) FILTER (dep_time IS NULL) DESC, day) AS place"
        " FROM flights GROUP BY month, day) WHERE place = 1 ORDER BY month",
    ),
)


class DatasetWrong(RuntimeError):  # noqa: N818 - named after what is wrong
    """The data set is not the published one."""


def right_answers(dataset: Path) -> dict[str, list[list[object]]]:
    """Each question's rows by its SQL, as a worker must give them.

    Raises:
        DatasetWrong: it does not hold the flights that were published.
    """
    with duckdb.connect(str(dataset), read_only=True, config={"threads": 1}) as connection:
        answers = {
            question.sql: [list(row) for row in connection.execute(question.sql).fetchall()] for question in QUESTIONS
        }
    counted = answers[QUESTIONS[0].sql]
    if counted != [[FLIGHTS_IN_2013]]:
        msg = (
            f"data set {dataset}: expected {FLIGHTS_IN_2013} flights, got {counted}; remove the file, it is built again"
        )
        raise DatasetWrong(msg)
    return answers
