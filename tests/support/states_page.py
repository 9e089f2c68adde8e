"""docs/states.md, drawn from the tables of transitions; `python -m tests.support.states_page` writes it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from scheduler.core import operations, states
from scheduler.core.operations import OperationState, RunState
from scheduler.core.states import WorkerState

PAGE = Path(__file__).parents[2] / "docs" / "states.md"

_HEAD = """# States

Drawn by `make docs` from the tables in the code, and never edited by hand: a test compares the two. `scheduler/store/migrate.py`
writes the same tables into triggers of PostgreSQL, so a statement that forgets one fails instead of breaking a life.
"""
# What an enumeration says of a state stands behind it, in its own line.
_NOTE = re.compile(r'^    \w+ = "(\w+)"(?:  # (.+))?$', re.MULTILINE)


def page() -> str:
    """The whole page as the tables say it now."""
    runs = {state: set(RunState) - {RunState.RUNNING} if state is RunState.RUNNING else set() for state in RunState}
    return "\n".join(
        (
            _HEAD,
            _section(
                "A worker",
                "`scheduler/core/states.py`; trigger `guard_worker` (`worker_state_follows_the_table`), which also holds that a"
                "\nworker serves one tenant and that each claim takes a new epoch.",
                states.TRANSITIONS,
                (WorkerState.SPAWNING,),
            ),
            _section(
                "An operation",
                "`scheduler/core/operations.py`; trigger `guard_operation` (`operation_state_follows_the_table`). Its step never"
                "\nfalls and its plan stands.",
                operations.TRANSITIONS,
                (OperationState.WAITING, OperationState.QUEUED),
            ),
            _section(
                "A run of a step",
                "`RunState` in `scheduler/core/operations.py`. It has no table: each statement that ends one names"
                "\n`running` as the state it expects, and the index `ux_runs_lane` lets a lane have one that runs.",
                runs,
                (RunState.RUNNING,),
            ),
        )
    )


def _section(title: str, where: str, after: Mapping[Any, Collection[StrEnum]], beginnings: Collection[StrEnum]) -> str:
    notes = dict(_NOTE.findall(inspect.getsource(type(next(iter(after))))))
    starts = [f"    [*] --> {state}" for state in beginnings]
    edges = [f"    {state} --> {follower}" for state in after for follower in after if follower in after[state]]
    ends = [f"    {state} --> [*]" for state in after if not after[state]]
    meanings = [f"- *{state}*: {notes[state]}" for state in after if notes[state]]
    drawing = ["```mermaid", "stateDiagram-v2", *starts, *edges, *ends, "```"]
    return "\n".join((f"## {title}", "", where, "", *drawing, "", *meanings, ""))


if __name__ == "__main__":
    PAGE.write_text(page())
