"""A database in which every table has a row, and what is in it: for whoever takes tables down and up again."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql

from config.settings import Settings
from scheduler.core.operations import Place, RunState, Step, plan
from scheduler.core.schedule import plan as plan_ticks
from scheduler.store import beat, networks, operations, queues, schedule, tallies
from scheduler.store.database import Connection, Database
from scheduler.store.sync import apply_settings
from scheduler.store.tallies import Tally
from tests.support.fleet import Fleet

Rows = dict[str, list[dict[str, Any]]]

_NOT_OURS = {"alembic_version"}


def fill(url: str, settings: Settings) -> None:
    """By the calls that make such rows in earnest."""
    with closing(Database(url)) as db:
        apply_settings(db, settings)
        fleet = Fleet(db, settings)
        fleet.idle(2)
        fleet.release(fleet.hold("acme"))
        fleet.ticket("globex", "job")
        queues.set_policy(db, "background", bound_s=9.0, by="somebody")
        tallies.add(db, [Tally("stoker_claims", {"outcome": "held"}, None, 1)])
        schedule.set_entry(db, "nightly", {"task": "a.b", "cadence": "1min"}, by="somebody")
        db.transaction(_tick)
        db.transaction(_network)
        first = db.transaction(lambda connection: _operation(connection, ()))
        db.transaction(lambda connection: _operation(connection, (first.id,)))
        place = Place(first.id, 0, first.token)
        begun = operations.begin_run(
            db,
            [place],
            task_id="t",
            task="step.dns",
            key="key",
            lane="blue",
            queue="q",
            attempt=1,
            lane_wait_s=0.0,
            lease=timedelta(minutes=1),
        )
        operations.end_run(db, begun.run, RunState.SUCCEEDED, [place], [{"how": "ran"}])


def rows(url: str) -> Rows:
    """All that each table holds, in an order of its own."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "select table_name from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE'"
        ).fetchall()
        found: Rows = {}
        for (table,) in tables:
            if table not in _NOT_OURS:
                text = sql.SQL("select to_jsonb(t) from {} t order by to_jsonb(t)::text").format(sql.Identifier(table))
                found[table] = [row for (row,) in connection.execute(text).fetchall()]
        return found


def kept(before: Rows, after: Rows) -> bool:
    """Whether what both have, tables and columns, holds the same."""
    for table in before.keys() & after.keys():
        columns = {name for row in before[table] for name in row} & {name for row in after[table] for name in row}
        ours, theirs = ([{c: row[c] for c in columns} for row in side[table]] for side in (before, after))
        if sorted(ours, key=str) != sorted(theirs, key=str):
            return False
    return True


def _network(connection: Connection) -> None:
    networks.create(connection, "blue", "10.1.0.0/24", "node1")
    networks.plug(connection, "blue", "web1", "node1", namespace="web1")
    networks.add_floating(connection, "blue", "web1", "192.0.2.1")


def _tick(connection: Connection) -> None:
    epoch = beat.acquire(connection, "host", 1)
    assert epoch is not None
    connection.execute("update schedule set anchor_at = now() - interval '5 min', due_at = now() - interval '4 min'")
    entries, now = beat.look(connection)
    due = [entry.scheduled for entry in entries if entry.scheduled and entry.name == "nightly"]
    (tick,) = plan_ticks(due, now).ticks
    assert beat.claim(connection, next(entry for entry in entries if entry.name == "nightly"), tick, epoch)


def _operation(connection: Connection, needs: tuple[int, ...]) -> operations.Operation:
    steps = plan([Step("step.dns", {"network": "blue"}), Step("step.mesh", {"network": "blue"})])
    return operations.submit(
        connection, "refresh", "blue", queue="q", rank=2, plan=steps, needs=needs, correlation_id="a-story"
    )
