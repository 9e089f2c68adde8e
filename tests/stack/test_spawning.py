"""Spawns overlap and wait for nobody: not for a slow profile, not for a broken one, not for a Celery worker that died."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

import pytest

from tasks.draining import drain
from tasks.pool import Held
from tests.stack.conftest import READY_DELAY_S
from tests.support import profiles
from tests.support.deployment import BEATS, COMPANIONS, Deployment, deployed
from tests.support.eventually import eventually
from tests.support.servers import Servers

MANY = int(os.environ.get("STOKER_TEST_SPAWNS") or 60)
WIDE = MANY - 10
PATIENCE_S = READY_DELAY_S + 60


def ask(deployment: Deployment, family: str, count: int) -> None:
    """Demand for so many workers, by as many callers who do not wait."""
    for number in range(count):
        assert not isinstance(deployment.context.pool.claim(f"{family}-{number}", family), Held)


def claim_cold(deployment: Deployment, tenant: str) -> None:
    """Hold a worker of a profile without a floor, and give it back."""
    held = deployment.context.pool.claim(tenant, "fast", wait_s=PATIENCE_S)
    assert isinstance(held, Held)
    deployment.context.pool.release(tenant, held.worker_id, held.epoch)


@pytest.mark.timeout(180 + 2 * READY_DELAY_S)
def test_60_slow_spawns_overlap_and_delay_no_tick_claim_or_spawn_of_a_fast_profile(deployment: Deployment) -> None:
    began = deployment.now()
    ask(deployment, "slow", MANY)
    eventually(
        lambda: len(deployment.events("slow", "worker.launched", began)) == MANY, "all launched", within_s=PATIENCE_S
    )
    asked_at = deployment.now()
    claim_cold(deployment, "beside")
    assert deployment.count("slow", "spawning") >= WIDE, "the fast one waited for those that were asked for before it"
    (tick,) = deployment.events("fast", "reconcile", asked_at)[:1]
    assert tick["after_s"] < deployment.settings.schedule.reconcile_s / 2, "a tick waited for a spawn, or for the clock"
    deployment.until_idle("slow", MANY, within_s=PATIENCE_S)
    launched = [event["after_s"] for event in deployment.events("slow", "worker.launched", began)]
    ready = [event["after_s"] for event in deployment.events("slow", "worker.idle", began)]
    width = max(sum(at <= point for at in launched) - sum(at <= point for at in ready) for point in launched)
    assert width >= WIDE


def test_a_profile_that_fails_backs_off_alone(deployment: Deployment) -> None:
    began = deployment.now()
    ask(deployment, "broken", 3)

    def failed() -> list[dict[str, Any]]:
        return deployment.events("broken", "spawn.failed", began)

    def made_later_than(after_s: float) -> list[float]:
        ask(deployment, "broken", 3)  # its callers do not give up
        made = [event["after_s"] for event in deployment.events("broken", "reconcile", began)]
        return [at for at in made if at > after_s]

    first = eventually(failed, "a failed spawn", within_s=PATIENCE_S)[0]
    again = eventually(lambda: made_later_than(first["after_s"]), "another try", within_s=PATIENCE_S)
    until = datetime.fromisoformat(first["detail"]["backoff_until"])
    assert again[0] >= (until - began).total_seconds() >= deployment.settings.backoff.first_s
    claim_cold(deployment, "unaffected")
    failing = deployment.db.rows("select family, failures from profiles where failures > 0")
    assert [row["family"] for row in failing] == ["broken"]
    assert first["detail"]["reason"] == "exited with 3"


@pytest.mark.timeout(180)
def test_on_a_closed_node_spawns_come_to_nothing_and_are_no_more_than_were_asked_for(servers: Servers) -> None:
    document = {"profiles": {"fast": profiles.echo(hot_idle_s=0.0)}}
    with deployed(servers, document, without=(*BEATS, *COMPANIONS, "user")) as deployment:
        claim_cold(deployment, "first")
        began = deployment.now()
        ((node,),) = [row.values() for row in deployment.db.rows("select name from nodes")]
        drain(deployment.context, worker=None, profile=None, node=node, undo=False)
        ask(deployment, "fast", 2)
        failed = eventually(
            lambda: deployment.events("fast", "spawn.failed", began), "a spawn came to nothing", within_s=PATIENCE_S
        )
        assert {event["detail"]["outcome"] for event in failed} == {"node_closed"}
        assert sum(tick["detail"]["created"] for tick in deployment.events("fast", "reconcile", began)) == 2
        assert deployment.count("fast", "idle") == 0, "nobody could have had it"
        drain(deployment.context, worker=None, profile=None, node=node, undo=True)
        claim_cold(deployment, "again")


@pytest.mark.timeout(180)
def test_workers_of_a_spawn_worker_killed_in_mid_spawn_are_adopted_and_none_is_doubled(
    deployment: Deployment,
) -> None:
    began = deployment.now()
    ask(deployment, "orphaned", 4)
    eventually(lambda: len(deployment.events("orphaned", "worker.launched", began)) >= 3, "three launched", within_s=30)
    before = deployment.stack.pids()["spawn"]
    deployment.stack.kill("spawn")
    deployment.stack.wait_for_pid("spawn", other_than=before, timeout_s=30)
    deployment.until_idle("orphaned", 4, within_s=PATIENCE_S)
    rows = deployment.db.rows(
        "select id, handle, state from workers where profile = %(p)s", p=deployment.canonical("orphaned")
    )
    running = [
        (one.worker_id, one.handle)
        for one in deployment.context.launcher.list(deployment.context.pool_id)
        if one.worker_id in {row["id"] for row in rows}
    ]
    assert len(rows) == 4, "no slot was made anew"
    assert sorted(running, key=lambda one: one[0]) == sorted(
        ((row["id"], row["handle"]) for row in rows), key=lambda one: one[0]
    )
