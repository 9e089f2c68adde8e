"""The cold ramp on real Celery workers: a burst is met whole and at once, and no retry makes it bigger than it is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from scheduler.store import history
from tasks.pool import Held
from tests.stack.conftest import READY_DELAY_S
from tests.support.deployment import Deployment
from tests.support.eventually import eventually
from tests.support.fleet import Fleet

FLOOR, TENANTS, RETRIES = 5, 30, 100


def test_30_tenants_at_once_have_35_slots_before_the_next_tick(deployment: Deployment) -> None:
    deployment.until_idle("ramp", FLOOR)
    # One who is not known yet holds an idle worker for an instant, finds that out and asks again; a neighbour would miss it.
    fleet = Fleet(deployment.db, deployment.settings)
    for n in range(TENANTS):
        fleet.tenant(f"ramp-{n}")
    pool, burst_at = deployment.context.pool, deployment.now()
    with ThreadPoolExecutor(TENANTS) as tenants:
        claims = list(tenants.map(lambda n: pool.claim(f"ramp-{n}", "ramp", wait_s=READY_DELAY_S + 60), range(TENANTS)))
    held = [claim for claim in claims if isinstance(claim, Held)]
    ticks = deployment.events("ramp", "reconcile", burst_at)
    assert len({claim.worker_id for claim in held}) == TENANTS
    assert sorted(claim.origin for claim in held) == ["waited"] * (TENANTS - FLOOR) + ["warm"] * FLOOR
    assert sum(tick["detail"]["created"] for tick in ticks) == TENANTS
    assert all(tick["detail"]["created"] == tick["detail"]["deficit"] for tick in ticks), ticks
    last = deployment.db.row(
        "select extract(epoch from max(asked_at) - %(burst)s)::float as s from every_claim where profile = %(p)s",
        burst=burst_at,
        p=deployment.canonical("ramp"),
    )
    assert last is not None
    slack_s = deployment.settings.schedule.reconcile_s / 2
    assert ticks[-1]["after_s"] <= last["s"] + slack_s, [tick["after_s"] for tick in ticks]
    assert deployment.count("ramp") == FLOOR + TENANTS
    for claim in held:
        assert pool.release(claim.tenant, claim.worker_id, claim.epoch) == "hot_idle"
    assert not history.double_claims(deployment.db)
    assert not history.cross_tenant(deployment.db)


def test_still_35_when_each_tenant_retries_100_times(deployment: Deployment) -> None:
    deployment.until_idle("retry", FLOOR)
    pool, burst_at = deployment.context.pool, deployment.now()

    def retry(tenant: str) -> Held | None:
        for _ in range(RETRIES):
            if isinstance(claim := pool.claim(tenant, "retry"), Held):
                return claim
        return None

    names = [f"retry-{number}" for number in range(TENANTS)]
    with ThreadPoolExecutor(TENANTS) as tenants:
        held = {claim.tenant: claim for claim in tenants.map(retry, names) if claim is not None}
        seen = deployment.db.row(
            "select count(*)::int as n from tickets where profile = %(p)s and worker_id is null",
            p=deployment.canonical("retry"),
        )
        assert seen is not None
        assert seen["n"] <= TENANTS - len(held), "a retry is no demand of its own"

        def everyone_holds() -> bool:
            missing = [name for name in names if name not in held]
            held.update({claim.tenant: claim for claim in tenants.map(retry, missing) if claim is not None})
            return len(held) == TENANTS

        eventually(everyone_holds, "every tenant holds a worker", within_s=READY_DELAY_S + 60)
    ticks = deployment.events("retry", "reconcile", burst_at)
    assert all(tick["detail"]["created"] == tick["detail"]["deficit"] for tick in ticks), ticks
    assert deployment.count("retry") == FLOOR + TENANTS
    for claim in held.values():
        pool.release(claim.tenant, claim.worker_id, claim.epoch)
