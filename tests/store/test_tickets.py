"""Tickets: as many as there are who wait, however often they ask; served in turn, and at the moment a worker is ready."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from scheduler.core.misses import MissReason
from scheduler.core.states import WorkerState
from scheduler.store import history, sweeping, tickets
from scheduler.store.claims import Claim
from scheduler.store.database import Database
from tasks.context import Context
from tasks.pool import Miss
from tests.support.fleet import MINUTE, NO_TIME, Fleet


def live_tickets(db: Database) -> int:
    row = db.row("select count(*)::int as count from tickets")
    assert row is not None
    return int(row["count"])


def test_one_waiter_that_retries_1000_times_is_one_demand(fleet: Fleet, context: Context) -> None:
    for _ in range(1_000):
        assert isinstance(context.pool.claim("acme", "echo"), Miss)
    assert fleet.demand() == 1
    assert live_tickets(fleet.db) == 1


def test_retries_at_once_from_many_threads_are_one_demand(fleet: Fleet, context: Context) -> None:
    with ThreadPoolExecutor(16) as threads:
        misses = list(threads.map(lambda _: context.pool.claim("acme", "echo", waiter="job"), range(200)))
    assert {miss.reason for miss in misses if isinstance(miss, Miss)} == {MissReason.NO_WARM}
    assert fleet.demand() == 1


def test_distinct_waiters_are_distinct_demands(fleet: Fleet) -> None:
    for number in range(5):
        fleet.ticket("acme", f"job-{number}")
        fleet.ticket("globex", f"job-{number}", listens=False)
    assert fleet.demand() == 10
    assert fleet.demand("other") == 0


def test_a_tenant_at_its_cap_is_no_demand_beyond_its_room(fleet: Fleet) -> None:
    fleet.tenant("capped", cap=2)
    fleet.idle(1)
    fleet.hold("capped")
    for number in range(5):
        fleet.ticket("capped", f"job-{number}")
    assert fleet.demand() == 1
    fleet.idle(1)  # goes to the first of them
    assert fleet.demand() == 0


@pytest.mark.parametrize("reason", [MissReason.TENANT_CAP, MissReason.PROFILE_CAP, MissReason.DRAINING])
def test_only_a_no_warm_miss_leaves_a_ticket(fleet: Fleet, context: Context, reason: MissReason) -> None:
    fleet.tenant("acme", cap=1 if reason is MissReason.TENANT_CAP else 0)
    fleet.idle(1)
    fleet.hold("acme")
    if reason is MissReason.PROFILE_CAP:
        fleet.db.rows("update profiles set floor = 0, max_workers = 1")
    if reason is MissReason.DRAINING:
        fleet.db.rows("update profiles set draining = true")
    miss = context.pool.claim("acme", "echo")
    assert isinstance(miss, Miss)
    assert miss.reason is reason
    assert live_tickets(fleet.db) == 0


def test_a_ticket_nobody_waits_on_lives_two_ticks(fleet: Fleet, context: Context) -> None:
    context.pool.claim("acme", "echo")
    row = fleet.db.row("select extract(epoch from expires_at - asked_at)::float as ttl_s, wake_key from tickets")
    assert row is not None
    assert row["ttl_s"] == pytest.approx(2 * context.settings.schedule.reconcile_s, abs=0.5)
    assert row["wake_key"] is None
    fleet.db.rows("update tickets set expires_at = now() - interval '1 ms'")
    assert fleet.demand() == 0
    assert sweeping.drop_dead_tickets(fleet.db, 10) == 1


def test_dead_tickets_are_dropped_a_batch_at_a_time_whatever_the_plan(fleet: Fleet, looping_db: Database) -> None:
    for number in range(5):
        fleet.ticket("acme", f"job-{number}")
    fleet.db.rows("update tickets set expires_at = now() - interval '1 ms'")
    assert [sweeping.drop_dead_tickets(looping_db, 3) for _ in range(3)] == [3, 2, 0]


def test_a_ticket_that_nobody_listens_for_is_granted_nothing(fleet: Fleet) -> None:
    fleet.ticket("acme", "job", listens=False)
    fleet.idle(1)
    assert tickets.grant(fleet.db, fleet.profile(), lease=MINUTE, at_most=9) == []


def test_a_dead_ticket_is_granted_nothing(fleet: Fleet) -> None:
    fleet.idle(2)
    dead = fleet.ticket("acme", "dead")
    fleet.db.rows("update tickets set expires_at = now() - interval '1 ms' where id = %(id)s", id=dead)
    alive = fleet.ticket("globex", "alive")
    granted = tickets.grant(fleet.db, fleet.profile(), lease=MINUTE, at_most=9)
    assert [grant.ticket_id for grant in granted] == [alive]


def test_a_tenant_has_at_most_so_many_tickets(fleet: Fleet) -> None:
    fleet.tenant("acme")

    def take(waiter: str) -> int | None:
        return tickets.take(fleet.db, "acme", fleet.profile(), waiter=waiter, wake_key=None, ttl=MINUTE, at_most=2)

    assert take("a") is not None
    assert take("b") is not None
    assert take("c") is None
    assert take("a") is not None, "the one it has stays its own"


def test_a_grant_is_taken_once_and_its_ticket_is_gone(fleet: Fleet) -> None:
    ticket = fleet.ticket("acme", "job")
    (worker,) = fleet.idle(1)
    claim = tickets.give_back(fleet.db, ticket)
    assert isinstance(claim, Claim)
    assert (claim.worker_id, claim.origin) == (worker, "waited")
    assert tickets.give_back(fleet.db, ticket) is None
    assert live_tickets(fleet.db) == 0


def test_a_grant_that_expired_before_it_was_fetched_is_no_claim(fleet: Fleet) -> None:
    ticket = fleet.ticket("acme", "job")
    (worker,) = fleet.idle(1)
    fleet.backdate("lease_until", worker, timedelta(hours=1))
    sweeping.expire(fleet.db, 10)
    assert tickets.give_back(fleet.db, ticket) is None
    assert not history.miscounted_tenants(fleet.db)


def test_who_waits_for_its_own_hot_idle_worker_gets_that_one(fleet: Fleet) -> None:
    fleet.idle(2)
    held = fleet.hold("acme")
    fleet.release(held)
    ticket = fleet.ticket("acme", "job")
    tickets.grant(fleet.db, fleet.profile(), lease=MINUTE, at_most=9)
    claim = tickets.give_back(fleet.db, ticket)
    assert claim is not None
    assert claim.worker_id == held.worker_id


def test_cap_that_is_freed_serves_the_tenants_own_waiter(fleet: Fleet) -> None:
    fleet.tenant("acme", cap=1)
    fleet.idle(2)
    held = fleet.hold("acme")
    ticket = fleet.ticket("acme", "job")
    assert tickets.grant(fleet.db, fleet.profile(), lease=MINUTE, at_most=9) == []
    fleet.release(held)
    assert tickets.profiles_awaited_by(fleet.db, ["acme"]) == [fleet.profile()]
    assert [g.ticket_id for g in tickets.grant(fleet.db, fleet.profile(), lease=MINUTE, at_most=9)] == [ticket]


def test_a_worker_that_becomes_ready_leaves_no_gap_to_who_barges_in(fleet: Fleet) -> None:
    waiting = [fleet.ticket(f"t{number}", "job") for number in range(20)]
    workers = fleet.launched(20)
    for number in range(4):
        fleet.tenant(f"barger-{number}")
    done = threading.Event()

    def barge(number: int) -> int:
        tries = 0
        while not done.is_set():
            assert fleet.claim(f"barger-{number}") is MissReason.NO_WARM
            tries += 1
        return tries

    with ThreadPoolExecutor(4) as bargers:
        tries = [bargers.submit(barge, number) for number in range(4)]
        grants = [fleet.ready(worker)[1] for worker in workers]
        done.set()
        assert sum(each.result() for each in tries) > 0
    assert sorted(grant.ticket_id for grant in grants if grant) == waiting


def test_a_worker_becomes_idle_where_nobody_waits(fleet: Fleet) -> None:
    (worker,) = fleet.launched(1)
    assert fleet.ready(worker) == (WorkerState.IDLE, None)
    assert fleet.ready(worker) == (None, None)


def test_a_worker_of_a_closed_profile_is_not_offered_when_it_becomes_ready(fleet: Fleet) -> None:
    (worker,) = fleet.launched(1)
    fleet.ticket("acme", "job")
    fleet.db.rows("update profiles set draining = true")
    assert fleet.ready(worker) == (WorkerState.DRAINING, None)


def test_signs_of_life_keep_tickets_and_tell_of_grants(fleet: Fleet) -> None:
    waiting, granted, gone = (fleet.ticket(tenant, "job") for tenant in ("b", "a", "c"))
    fleet.db.rows("update tenants set turn_at = now() where name in ('b', 'c')")
    fleet.idle(1)
    tickets.give_back(fleet.db, gone)
    assert tickets.keep_alive(fleet.db, [waiting, granted, gone], NO_TIME) == {waiting: False, granted: True}
