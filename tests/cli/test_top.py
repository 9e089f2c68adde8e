"""`stoker top` shows what there is, and says who is away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing

import pytest
import redis

from scheduler.store import beat, tallies
from scheduler.store.database import Database
from scheduler.store.tallies import Tally
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
    for part in ("no beat sends", "echo", "background", "30.00 s", "worker.idle"):
        assert part in shown


@pytest.mark.usefixtures("settings")
def test_it_tells_the_beat_that_sends_what_is_overdue_and_what_folded(
    servers: Servers, database_url: str, db: Database
) -> None:
    tallies.add(
        db,
        [
            Tally("stoker_step_requests", {"step": "step.x"}, None, 7),
            Tally("stoker_folds", {"step": "step.x"}, None, 4),
        ],
    )
    servers.flush()
    with closing(redis.Redis.from_url(servers.redis_client_url)) as client, db.connection() as connection:
        now_ms = int(client.time()[0]) * 1000
        client.lpush("background", f'{{"stoker-at": {now_ms - 90_000}, "body": ""}}')
        assert beat.acquire(connection, "somewhere", 77)
        connection.execute("update beat_lease set until = until + interval '1 minute'")  # nobody renews it here
        seen = json.loads(top(servers, database_url, "--json"))
        shown = top(servers, database_url, "--once", columns=200)
        client.flushdb()
    assert (seen["beat"]["active"], seen["beat"]["host"], seen["beat"]["pid"]) == (True, "somewhere", 77)
    assert seen["queues"]["background"]["waiting"] == 1
    assert seen["queues"]["background"]["oldest_s"] >= 90 > seen["queues"]["background"]["bound_s"] == 30
    assert seen["folds"] == [{"step": "step.x", "requests": 7, "folded": 4, "missed": 0}]
    for part in ("somewhere, process 77", "overdue", "step.x"):
        assert part in shown


def test_a_database_that_is_away_is_said_and_the_queues_are_shown(servers: Servers) -> None:
    seen = json.loads(top(servers, "postgresql://x@127.0.0.1:1/x", "--json"))
    assert seen["profiles"] is None
    assert seen["error"]
    assert "background" in seen["queues"]
