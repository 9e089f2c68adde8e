"""A pool of connections outlives the server that they were made on."""

from __future__ import annotations

import time
from contextlib import closing

from scheduler.store.database import Database


def test_connections_that_the_server_closed_while_they_were_idle_are_replaced_at_once(database_url: str) -> None:
    with closing(Database(database_url, connections=3)) as db, closing(Database(database_url, connections=1)) as other:
        with db.connection() as one, db.connection() as two:
            idle = [one.info.backend_pid, two.info.backend_pid]
        # As by a restart: the server says so, and closes.
        other.rows("select pg_terminate_backend(pid, 5000) from unnest(%(pids)s::int[]) pid", pids=idle)
        began = time.monotonic()
        for _ in range(3):
            row = db.row("select pg_backend_pid() as pid")
            assert row is not None
            assert row["pid"] not in idle
        assert time.monotonic() - began < 8.0  # the pool's own patience is 10 s
