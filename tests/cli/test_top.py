"""`stoker top` shows what there is, and says who is away."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.support.fleet import Fleet
from tests.support.servers import Servers


def top(servers: Servers, database_url: str, *flags: str, columns: int = 120) -> str:
    own = {"STOKER_DATABASE_URL": database_url, "STOKER_STATE_DIR": str(servers.state_dir), "COLUMNS": str(columns)}
    command = [sys.executable, "-c", "from tasks.cli import main; main()", "top", *flags]
    return subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("columns", [60, 200])
def test_one_screen_shows_pool_queues_and_events(
    servers: Servers, database_url: str, fleet: Fleet, columns: int
) -> None:
    fleet.idle(1)
    shown = top(servers, database_url, "--once", columns=columns)
    for part in ("echo", "background", "worker.idle"):
        assert part in shown


def test_a_database_that_is_away_is_said_and_the_queues_are_shown(servers: Servers) -> None:
    seen = json.loads(top(servers, "postgresql://x@127.0.0.1:1/x", "--json"))
    assert seen["profiles"] is None
    assert seen["error"]
    assert "background" in seen["queues"]
