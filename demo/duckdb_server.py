"""A worker that answers SQL over the demo's data set with DuckDB, which can reach nothing else.

Run as ``python -m demo.duckdb_server``; see demo.worker for its environment, and STOKER_DEMO_DATASET (the file, built
when missing), STOKER_DEMO_MEMORY (DuckDB's limit) and STOKER_DEMO_QUERY_S (the longest query, in seconds).
"""

from __future__ import annotations

import math
import os
import threading

from demo.gate import Refused
from demo.worker import run

TYPE_CHECKING = False  # typing itself would cost 5 ms
if TYPE_CHECKING:
    from typing import Any

    import duckdb

    from demo.worker import Execute
else:
    # The extension module itself, where this release of DuckDB has one: the package around it takes 130 ms to import.
    try:
        import _duckdb as duckdb
    except ImportError:
        import duckdb

DEFAULT_DATASET = ".stoker/demo/flights.duckdb"
ROWS_MAX = 1_000

# In this order: the last one forbids all further ones, to SQL from outside too.
_LOCKS = (
    "SET temp_directory = ''",
    "SET python_enable_replacements = false",  # or `FROM name` would read this process's own variables
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


def open_locked(path: str, memory: str) -> duckdb.DuckDBPyConnection:
    """The data set, read-only, on one thread, with no way to other files, extensions, the network or these settings."""
    config: dict[str, Any] = {"threads": "1", "memory_limit": memory}
    connection = duckdb.connect(path, read_only=True, config=config)
    for statement in _LOCKS:
        connection.execute(statement)
    return connection


def prepare() -> Execute:
    """Attach the data set; the function that runs SQL on it."""
    path = os.environ.get("STOKER_DEMO_DATASET") or DEFAULT_DATASET
    if not os.path.exists(path):  # noqa: PTH110 - pathlib would cost 4 ms of every start
        from pathlib import Path  # noqa: PLC0415

        from demo.dataset import ensure_dataset  # noqa: PLC0415

        ensure_dataset(Path(path))
    connection = open_locked(path, os.environ.get("STOKER_DEMO_MEMORY") or "64MB")
    query_s = float(os.environ.get("STOKER_DEMO_QUERY_S") or 30)

    def execute(sql: str) -> dict[str, Any]:
        # A cursor for each request: what one creates or leaves open, no other sees.
        cursor = connection.cursor()
        deadline = threading.Timer(query_s, cursor.interrupt)
        deadline.daemon = True
        deadline.start()
        try:
            return _run(cursor, sql)
        except duckdb.InterruptException:
            raise Refused(400, f"query cancelled after {query_s:g} s") from None
        except duckdb.Error as error:
            raise Refused(400, str(error)) from None
        finally:
            # Joined before the cursor closes: it must not interrupt what is closed.
            deadline.cancel()
            deadline.join()
            cursor.close()

    return execute


def _run(cursor: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    cursor.execute(sql)
    if not cursor.description:
        return {"columns": [], "rows": [], "truncated": False}
    rows = cursor.fetchmany(ROWS_MAX + 1)
    return {
        "columns": [column[0] for column in cursor.description],
        "rows": [[_plain(value) for value in row] for row in rows[:ROWS_MAX]],
        "truncated": len(rows) > ROWS_MAX,
    }


def _plain(value: object) -> object:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)  # JSON has no nan and no infinity
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value.hex() if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    run(prepare)
