"""(worker, epoch) names a claim, and whoever comes with an older one changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from scheduler.core.misses import MissReason
from scheduler.store import claims, launches, sweeping
from scheduler.store.claims import Claim
from scheduler.store.database import Database
from tests.support import racers
from tests.support.crowd import crowd
from tests.support.fleet import MINUTE, Fleet, handle

Stale = Callable[[Database, Claim], object]

AFTER_THE_END: dict[str, Stale] = {
    "release": lambda db, old: claims.release(db, old.worker_id, old.epoch, old.tenant),
    "renew": lambda db, old: claims.renew(db, old.worker_id, old.epoch, old.tenant, MINUTE),
    "activated": lambda db, old: claims.activated(db, old, MINUTE),
    "abandon": lambda db, old: claims.abandon(db, old, "late"),
    "gone_by_another_handle": lambda db, old: launches.gone(db, old.worker_id, handle(999), "late"),
    "ready_again": lambda db, old: launches.ready(db, old.worker_id, MINUTE)[0],
    "failed": lambda db, old: launches.failed(db, old.worker_id, "late", gone=True, first=MINUTE, longest=MINUTE),
}


@pytest.mark.parametrize("late", AFTER_THE_END)
def test_a_stale_epoch_changes_nothing(fleet: Fleet, late: str) -> None:
    fleet.idle(1)
    old = fleet.hold("acme")
    fleet.release(old)
    assert fleet.hold("acme").worker_id == old.worker_id
    before = fleet.snapshot()
    assert not AFTER_THE_END[late](fleet.db, old)
    assert fleet.snapshot() == before


def test_another_tenant_ends_and_renews_nothing(fleet: Fleet) -> None:
    fleet.idle(1)
    held = fleet.hold("acme")
    before = fleet.snapshot()
    assert claims.release(fleet.db, held.worker_id, held.epoch, "globex") is None
    assert not claims.renew(fleet.db, held.worker_id, held.epoch, "globex", MINUTE)
    assert fleet.snapshot() == before


def test_of_many_releases_of_one_claim_one_counts(fleet: Fleet, database_url: str) -> None:
    fleet.idle(1)
    held = fleet.hold("acme")
    done = crowd(racers.release, [(database_url, "acme", held.worker_id, held.epoch)] * 16)
    assert sum(done) == 1
    assert fleet.db.row("select live from tenants where name = 'acme'") == {"live": 0}


def test_a_lease_that_ran_out_is_not_renewed(fleet: Fleet) -> None:
    fleet.idle(1)
    held = fleet.hold("acme")
    fleet.backdate("lease_until", held.worker_id, timedelta(hours=1))
    assert not claims.renew(fleet.db, held.worker_id, held.epoch, "acme", MINUTE)


def test_an_expired_claim_drains_its_worker_and_frees_its_tenants_room(fleet: Fleet) -> None:
    fleet.tenant("acme", cap=1)
    fleet.idle(2)
    held = fleet.hold("acme")
    fleet.backdate("lease_until", held.worker_id, timedelta(hours=1))
    expired = sweeping.expire(fleet.db, 10)
    assert (expired.draining, expired.tenants) == ([held.worker_id], ["acme"])
    assert fleet.state(held.worker_id) == "draining"
    assert isinstance(fleet.claim("acme"), Claim)
    assert fleet.release(held) is None


def test_an_activation_that_takes_too_long_loses_the_worker(fleet: Fleet) -> None:
    fleet.idle(1)
    fleet.tenant("acme")
    claimed = fleet.claim("acme")
    assert isinstance(claimed, Claim)
    fleet.backdate("lease_until", claimed.worker_id, timedelta(hours=1))
    sweeping.expire(fleet.db, 10)
    assert not claims.activated(fleet.db, claimed, MINUTE)
    row = fleet.db.row("select end_reason from claims")
    assert row == {"end_reason": "activation_expired"}


def test_a_hot_idle_that_is_over_drains(fleet: Fleet) -> None:
    fleet.idle(1)
    held = fleet.hold("acme")
    assert fleet.release(held) == "hot_idle"
    assert sweeping.expire(fleet.db, 10).draining == []
    fleet.backdate("hot_until", held.worker_id, timedelta(hours=1))
    assert sweeping.expire(fleet.db, 10).draining == [held.worker_id]


def test_a_renewal_that_came_first_wins_over_the_sweep(fleet: Fleet, db: Database) -> None:
    fleet.idle(1)
    held = fleet.hold("acme")
    with db.connection() as renewing, renewing.transaction():
        # The lease runs out while its renewal is under way, uncommitted.
        renewing.execute("update workers set lease_until = now() - interval '1 s' where id = %s", [held.worker_id])
        with ThreadPoolExecutor(1) as sweeper:
            assert sweeper.submit(sweeping.expire, db, 10).result(timeout=10).draining == []
        renewing.execute("update workers set lease_until = now() + interval '1 min' where id = %s", [held.worker_id])
    assert sweeping.expire(db, 10).draining == []
    assert fleet.state(held.worker_id) == "active"


def test_a_sweep_that_came_first_wins_over_the_renewal(fleet: Fleet, db: Database) -> None:
    fleet.idle(1)
    held = fleet.hold("acme")
    fleet.backdate("lease_until", held.worker_id, timedelta(hours=1))
    with ThreadPoolExecutor(1) as holder:
        with db.connection() as sweep, sweep.transaction():
            sweep.execute(
                "select move_worker(%s, %s, array['active'], 'draining', 'lease_expired')", [held.worker_id, held.epoch]
            )
            # It waits for the row's lock, and must look again once it has it.
            late = holder.submit(claims.renew, db, held.worker_id, held.epoch, "acme", MINUTE)
        assert late.result(timeout=10) is False
    assert fleet.state(held.worker_id) == "draining"


def test_a_worker_killed_while_claimed_ends_its_claim(fleet: Fleet) -> None:
    fleet.tenant("acme", cap=1)
    (worker,) = fleet.idle(1)
    fleet.hold("acme")
    ended = launches.gone(fleet.db, worker, handle(worker), "exited with -9")
    assert ended is not None
    assert (ended.state, ended.tenant) == ("lost", "acme")
    assert fleet.claim("acme") is MissReason.NO_WARM, "its cap must have room again"
