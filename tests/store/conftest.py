"""What only the tests of the store need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from scheduler.store.database import Database

# Each of these plans is right, and any of them may be chosen once a table has grown or was analysed.
LOOPS_ONLY = ("enable_hashjoin", "enable_mergejoin", "enable_hashagg", "enable_sort", "enable_material")


@pytest.fixture
def looping_db(database_url: str) -> Iterator[Database]:
    """Connections whose planner joins by loops alone, so that a subquery with a limit may be run once for each row."""
    options = " ".join(f"-c {name}=off" for name in LOOPS_ONLY)
    with closing(Database(psycopg.conninfo.make_conninfo(database_url, options=options))) as database:
        yield database
