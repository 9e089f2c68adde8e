"""The operations of a run as the database remembers them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from demo.network.record import OperationRow, RunRow

if TYPE_CHECKING:
    from scheduler.store.database import Database

_OPERATIONS = """
select id, kind, target, state, asked, error, trail,
       array(select step ->> 'task' from jsonb_array_elements(plan) with ordinality p (step, place) order by place) as plan,
       extract(epoch from submitted_at)::float as submitted_at, extract(epoch from ended_at)::float as ended_at
from operations order by id
"""
_RUNS = """
select task, operation_id, state, served, extract(epoch from began_at)::float as began_at,
       extract(epoch from ended_at)::float as ended_at
from runs order by began_at, id
"""


def remembered_operations(db: Database) -> list[OperationRow]:
    """Every operation of this database."""
    return [OperationRow(**row) for row in db.rows(_OPERATIONS)]


def remembered_runs(db: Database) -> list[RunRow]:
    """Every run of a step."""
    return [RunRow(**row) for row in db.rows(_RUNS)]
