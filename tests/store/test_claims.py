"""A claim is one round trip: the tenant's own worker first, then the longest-warm node, and never past a cap."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from scheduler.core.misses import MissReason
from scheduler.errors import Permanent
from scheduler.store import claims, history, launches, reaping
from scheduler.store.claims import Claim, UnknownTenantError
from scheduler.store.database import Database
from tests.support import racers
from tests.support.crowd import crowd
from tests.support.fleet import MINUTE, Fleet, handle
from tests.support.wiretap import Wiretap

PROCESSES = 32


def test_the_tenants_own_hot_idle_worker_comes_first(fleet: Fleet) -> None:
    fleet.idle(2, node="oldest")
    held = fleet.hold("acme")
    fleet.release(held)
    fleet.idle(2, node="oldest")
    again = fleet.claim("acme")
    assert isinstance(again, Claim)
    assert (again.worker_id, again.epoch, again.origin) == (held.worker_id, held.epoch + 1, "hot_idle")


def test_a_hot_idle_worker_is_offered_to_no_other_tenant(fleet: Fleet) -> None:
    fleet.idle(1)
    fleet.release(fleet.hold("acme"))
    fleet.tenant("globex")
    assert fleet.claim("globex") is MissReason.NO_WARM


def test_a_hot_idle_that_is_over_is_not_reused(fleet: Fleet) -> None:
    fleet.idle(1)
    held = fleet.hold("acme")
    fleet.release(held)
    fleet.backdate("hot_until", held.worker_id, timedelta(hours=1))
    assert fleet.claim("acme") is MissReason.NO_WARM


def test_the_longest_seen_node_comes_first_and_the_unknown_last(fleet: Fleet) -> None:
    (unknown,) = fleet.idle(1, node="lost")
    fleet.db.rows("update workers set node = null, node_first_seen = null where id = %(id)s", id=unknown)
    (young,) = fleet.idle(1, node="young")
    (old,) = fleet.idle(1, node="old")
    fleet.db.rows("update workers set node_first_seen = now() - interval '1 day' where id = %(id)s", id=old)
    assert [fleet.hold(tenant).worker_id for tenant in ("a", "b", "c")] == [old, young, unknown]


def test_a_cordoned_node_is_never_offered_even_to_those_that_become_ready_later(fleet: Fleet) -> None:
    fleet.idle(1, node="leaving")
    (late,) = fleet.launched(1, node="leaving")
    assert reaping.cordon(fleet.db, "leaving", cordoned=True)
    assert fleet.ready(late) == ("spawning", None)
    fleet.tenant("acme")
    assert fleet.claim("acme") is MissReason.NO_WARM
    reaping.cordon(fleet.db, "leaving", cordoned=False)
    assert isinstance(fleet.claim("acme"), Claim)
    assert fleet.ready(late) == ("idle", None)


def test_a_worker_of_a_cordoned_node_is_not_kept_hot(fleet: Fleet) -> None:
    fleet.idle(1, node="leaving")
    held = fleet.hold("acme")
    reaping.cordon(fleet.db, "leaving", cordoned=True)
    assert fleet.release(held) == "draining"


def test_profiles_match_exactly(fleet: Fleet) -> None:
    fleet.idle(1, family="other")
    fleet.tenant("acme")
    assert fleet.claim("acme", family="echo") is MissReason.NO_WARM
    assert isinstance(fleet.claim("acme", family="other"), Claim)


def test_a_miss_names_its_reason(fleet: Fleet) -> None:
    fleet.tenant("acme")
    assert fleet.claim("acme") is MissReason.NO_WARM
    fleet.tenant("capped", cap=1)
    fleet.idle(3)
    assert isinstance(fleet.claim("capped"), Claim)
    assert fleet.claim("capped") is MissReason.TENANT_CAP
    fleet.db.rows("update profiles set floor = 0, max_workers = 3")
    assert isinstance(fleet.claim("acme"), Claim)
    assert isinstance(fleet.claim("acme"), Claim)
    assert fleet.claim("acme") is MissReason.PROFILE_CAP
    reaping.set_draining(fleet.db, fleet.profile(), draining=True)
    assert fleet.claim("acme") is MissReason.DRAINING


def test_a_profile_at_its_cap_whose_workers_still_start_is_no_warm(fleet: Fleet) -> None:
    fleet.db.rows("update profiles set floor = 0, max_workers = 3")
    fleet.launched(3)
    fleet.tenant("acme")
    assert fleet.claim("acme") is MissReason.NO_WARM


def test_only_no_warm_is_demand() -> None:
    assert {reason for reason in MissReason if reason.is_demand} == {MissReason.NO_WARM}


def test_a_miss_changes_nothing(fleet: Fleet) -> None:
    fleet.tenant("capped", cap=1)
    fleet.idle(2)
    fleet.claim("capped")
    before = fleet.snapshot()
    assert fleet.claim("capped") is MissReason.TENANT_CAP
    assert fleet.snapshot() == before


def test_unknown_names_are_errors_and_not_misses(fleet: Fleet) -> None:
    with pytest.raises(UnknownTenantError, match="nobody"):
        fleet.claim("nobody")
    fleet.tenant("acme")
    with pytest.raises(Permanent, match="stoker migrate"):
        claims.claim(fleet.db, "acme", "echo@00000000", waiter="", lease=MINUTE)


def test_claim_renew_and_release_are_one_round_trip_each(fleet: Fleet, tapped_db: Database, wiretap: Wiretap) -> None:
    tapped = Fleet(tapped_db, fleet.settings)
    fleet.idle(5)
    fleet.tenant("acme")

    def trips() -> list[int]:
        counted: list[int] = []
        with wiretap.counting() as claiming:
            claimed = tapped.claim("acme")
        assert isinstance(claimed, Claim)
        with wiretap.counting() as binding:
            assert claims.activated(tapped_db, claimed, MINUTE)
        with wiretap.counting() as renewing:
            assert claims.renew(tapped_db, claimed.worker_id, claimed.epoch, "acme", MINUTE)
        with wiretap.counting() as releasing:
            assert tapped.release(claimed)
        return counted + claiming + binding + renewing + releasing

    for _ in range(4):  # until each statement is prepared
        trips()
    assert trips() == [1, 1, 1, 1]


def test_a_tenants_cap_is_exact_under_32_processes(fleet: Fleet, database_url: str) -> None:
    fleet.idle(PROCESSES)
    fleet.tenant("capped", cap=7)
    got = crowd(racers.claim, [(database_url, "capped", fleet.profile())] * PROCESSES)
    held = [each for each in got if not isinstance(each, str)]
    assert len(set(held)) == len(held) == 7
    assert Counter(each for each in got if isinstance(each, str)) == {"tenant_cap": PROCESSES - 7}
    assert not history.miscounted_tenants(fleet.db)


def test_32_processes_share_20_workers_without_two_on_one(fleet: Fleet, database_url: str) -> None:
    fleet.idle(20)
    tenants = [fleet.tenant(f"t{number}") for number in range(PROCESSES)]
    got = crowd(racers.claim, [(database_url, tenant, fleet.profile()) for tenant in tenants])
    held = [each for each in got if not isinstance(each, str)]
    assert len({worker for worker, _ in held}) == len(held)
    # SKIP LOCKED: who looks while all are in others' hands gets a miss, and its demand brings another worker.
    assert set(got) - set(held) == {"no_warm"}
    assert len(held) == 20
    assert not history.double_claims(fleet.db)


def test_a_worker_that_ended_is_never_claimed(fleet: Fleet) -> None:
    (worker,) = fleet.idle(1)
    assert launches.gone(fleet.db, worker, handle(worker), "killed") is not None
    fleet.tenant("acme")
    assert fleet.claim("acme") is MissReason.NO_WARM


def test_a_served_caller_leaves_no_demand_behind(fleet: Fleet) -> None:
    fleet.ticket("acme", "job-1", listens=False)
    assert fleet.demand() == 1
    fleet.idle(1)
    claimed = fleet.claim("acme", waiter="job-1")
    assert isinstance(claimed, Claim)
    assert fleet.demand() == 0
