"""After a full restart a slow profile refills beside a fast one that does not notice; and the ticks alone do it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from config.locations import Locations
from tasks.engines import wipe
from tests.support import profiles
from tests.support.deployment import Deployment, started
from tests.support.eventually import eventually
from tests.support.servers import Servers

TICK_S = 2.0
SLOW_S = float(os.environ.get("STOKER_TEST_SLOW_S") or 6.0)  # 120 is the case that this test is named after
FLOOR = 3
TENANTS = 12
# For a message to be taken, and for three processes of a busy machine to start.
SLACK_S = 5.0

DOCUMENT = {
    "wake_ups": False,
    "schedule": {"reconcile_s": TICK_S, "reap_s": 5.0, "sweep_s": 2.0},
    "profiles": {
        "slow": profiles.echo(ready_after_s=SLOW_S, floor=FLOOR, ready_s=SLOW_S + 54, spawn_budget_s=SLOW_S + 84),
        "fast": profiles.echo(floor=FLOOR),
        "burst": profiles.echo(),
    },
}


@pytest.fixture
def place(servers: Servers) -> Iterator[tuple[Path, str, str | None]]:
    """A state folder and a database that outlive a stack."""
    with ExitStack() as down:
        state_dir = Path(tempfile.mkdtemp(prefix="stoker-test-", dir="/var/tmp"))
        state_dir.chmod(0o711)
        down.callback(shutil.rmtree, state_dir, ignore_errors=True)
        down.callback(wipe, Locations.under(state_dir))
        yield state_dir, down.enter_context(servers.database()), servers.redis_apart()


@contextmanager
def filled(place: tuple[Path, str, str | None]) -> Iterator[tuple[Deployment, dict[str, float]]]:
    """A stack that has just refilled, and how long each profile took from its first slot to its floor."""
    with started(*place, DOCUMENT) as deployment:
        for family in ("fast", "slow"):
            deployment.until_idle(family, FLOOR, within_s=SLOW_S + 60)
        yield deployment, {family: refilled_s(deployment, family) for family in ("fast", "slow")}


def refilled_s(deployment: Deployment, family: str) -> float:
    """By the database's clock, and of the workers that run."""
    row = deployment.db.row(
        "select extract(epoch from max(ready_at) - min(created_at))::float as s from workers"
        " where profile = %(p)s and ended_at is null",
        p=deployment.canonical(family),
    )
    assert row is not None
    return float(row["s"])


@pytest.mark.timeout(180 + 4 * SLOW_S)
def test_a_slow_profile_refills_after_a_restart_and_a_fast_one_beside_it_at_once(
    place: tuple[Path, str, str | None],
) -> None:
    with filled(place) as (deployment, first_s):
        old = deployment.db.rows("select id from workers where ended_at is null")
        burst_at = deployment.now()
        with ThreadPoolExecutor(TENANTS) as tenants:
            list(tenants.map(lambda n: deployment.context.pool.claim(f"t{n}", "burst"), range(TENANTS)))
        asked_s = (deployment.now() - burst_at).total_seconds()

        def ticks() -> list[dict[str, Any]]:
            """More than one where the clock's came in mid-burst."""
            found = deployment.events("burst", "reconcile", burst_at)
            return found if sum(tick["detail"]["created"] for tick in found) >= TENANTS else []

        met = eventually(ticks, "the burst is met", within_s=30)
        assert sum(tick["detail"]["created"] for tick in met) == TENANTS
        assert all(tick["detail"]["created"] == tick["detail"]["deficit"] for tick in met), met
        assert met[-1]["after_s"] <= asked_s + TICK_S + SLACK_S, "one tick is all it may take without wake-ups"
    with filled(place) as (deployment, again_s):
        new = deployment.db.rows("select id from workers where ended_at is null and state = 'idle'")
        assert not {row["id"] for row in old} & {row["id"] for row in new}, "a stopped stack leaves no worker"
        failed = deployment.db.rows("select name from profiles where failures > 0")
        assert failed == [], "a slow spawn is no failed one"
    for took_s in (first_s, again_s):
        assert took_s["fast"] < SLOW_S <= took_s["slow"] <= SLOW_S + 2 * SLACK_S, took_s
