"""The deficit is created once, in one transaction, however many reconcile; a slot is launched once, however often asked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from scheduler.core.capacity import CapacityPlan
from scheduler.store import launches, reaping, slots, sweeping, tickets
from scheduler.store.database import Database
from tasks import reconcile, sweep
from tasks.context import Context
from tests.conftest import MakeContext, MakeSettings
from tests.support import profiles, racers
from tests.support.crowd import crowd
from tests.support.fleet import MINUTE, NO_TIME, SECOND, Fleet, handle
from tests.support.wiretap import Wiretap

PROCESSES = 32


def reconciles(db: Database) -> list[dict[str, Any]]:
    return [row["detail"] for row in db.rows("select detail from events where kind = 'reconcile' order by id")]


def test_32_reconcilers_at_once_create_the_deficit_once(fleet: Fleet, database_url: str) -> None:
    for number in range(30):
        fleet.ticket(f"t{number}", "job")
    created = crowd(racers.reconcile, [(database_url, fleet.profile(), 5)] * PROCESSES)
    assert sorted(created) == [0] * (PROCESSES - 1) + [35]
    assert [(event["created"], event["deficit"]) for event in reconciles(fleet.db)] == [(35, 35)]


def test_the_deficit_is_created_in_one_transaction(fleet: Fleet) -> None:
    fleet.slots(40)
    assert len(fleet.db.rows("select distinct xmin::text from workers")) == 1


def test_a_tick_with_nothing_to_do_is_one_statement(fleet: Fleet, wiretap: Wiretap, make_context: MakeContext) -> None:
    fleet.idle(2)
    fleet.idle(3, family="other")
    settings = fleet.settings.model_copy(update={"database_url": wiretap.url})
    context = make_context(settings)
    for _ in range(4):  # until the statement is prepared
        reconcile.run(context)
    with wiretap.counting() as trips:
        assert reconcile.run(context) == {}
    assert trips == [1]


def test_a_tick_serves_floor_and_demand_of_every_profile_at_once(fleet: Fleet, context: Context) -> None:
    for number in range(7):
        fleet.ticket("acme", f"job-{number}", family="other")
    assert reconcile.run(context) == {fleet.profile("echo"): 2, fleet.profile("other"): 7}
    assert reconcile.run(context) == {}, "what is on its way was counted again"
    assert context.hints._redis.llen("spawn") == 9
    assert all(event["created"] == event["deficit"] for event in reconciles(fleet.db))


def test_idle_workers_that_nobody_can_have_stand_in_for_none(fleet: Fleet, context: Context) -> None:
    fleet.idle(6, node="leaving")
    fleet.idle(1, node="stays")
    reaping.cordon(fleet.db, "leaving", cordoned=True)
    for number in range(3):
        fleet.ticket("acme", f"job-{number}", listens=False)
    # Floor 2 and demand 3, and one idle worker that a claim can have.
    assert reconcile.run(context, only=fleet.profile()) == {fleet.profile(): 4}
    assert reconcile.run(context, only=fleet.profile()) == {}
    reaping.cordon(fleet.db, "leaving", cordoned=False)
    assert reconcile.run(context, only=fleet.profile()) == {}


def test_spawns_on_a_closed_node_are_on_their_way_and_grow_no_further(fleet: Fleet, context: Context) -> None:
    (slot,) = fleet.slots(1)
    fleet.launch(slot, "leaving")
    reaping.cordon(fleet.db, "leaving", cordoned=True)
    assert reconcile.run(context, only=fleet.profile()) == {fleet.profile(): 1}
    assert fleet.ready(slot.worker_id) == ("spawning", None)
    assert reconcile.run(context, only=fleet.profile()) == {}


def test_a_node_that_an_operator_opens_ends_every_backoff(fleet: Fleet, context: Context) -> None:
    (worker,) = fleet.launched(1, node="leaving")
    reaping.cordon(fleet.db, "leaving", cordoned=True)
    launches.failed(fleet.db, worker, "node_closed", gone=True, first=MINUTE, longest=MINUTE)
    assert not reaping.cordon(fleet.db, "nowhere", cordoned=False)
    assert reconcile.run(context, only=fleet.profile()) == {}
    reaping.cordon(fleet.db, "leaving", cordoned=False)
    assert reconcile.run(context, only=fleet.profile()) == {fleet.profile(): 2}


def test_a_profile_that_backs_off_delays_no_other(fleet: Fleet, context: Context) -> None:
    (slot,) = fleet.slots(1)
    launches.failed(fleet.db, slot.worker_id, "no image", gone=True, first=MINUTE, longest=MINUTE)
    fleet.ticket("acme", "job", family="other")
    assert reconcile.run(context) == {fleet.profile("other"): 1}
    fleet.db.rows("update profiles set backoff_until = now() - interval '1 s' where failures > 0")
    assert reconcile.run(context) == {fleet.profile("echo"): 2}


def test_a_worker_that_becomes_ready_ends_the_backoff(fleet: Fleet) -> None:
    slot, (launched,) = fleet.slots(1)[0], fleet.launched(1)
    launches.failed(fleet.db, slot.worker_id, "broken", gone=True, first=MINUTE, longest=MINUTE)
    fleet.ready(launched)
    row = fleet.db.row("select failures, backoff_until from profiles where name = %(name)s", name=fleet.profile())
    assert row == {"failures": 0, "backoff_until": None}


def test_a_cap_clips_and_says_so(fleet: Fleet, make_settings: MakeSettings, make_context: MakeContext) -> None:
    capped = {"echo": profiles.echo(floor=3, max_workers=4), "other": profiles.echo()}
    context = make_context(make_settings(profiles=capped))
    fleet.db.rows("update profiles set floor = 3, max_workers = 4 where name = %(name)s", name=fleet.profile())
    for number in range(9):
        fleet.ticket("acme", f"job-{number}")
    assert reconcile.run(context) == {fleet.profile(): 4}
    (event,) = reconciles(fleet.db)
    assert (event["created"], event["deficit"], event["clipped_by"]) == (4, 12, "max_workers")


def test_a_machine_that_is_full_clips_and_says_so(make_settings: MakeSettings, make_context: MakeContext) -> None:
    huge = profiles.echo(floor=2, memory="900Ti")
    context = make_context(make_settings(profiles={"huge": huge}))
    context.prepare()
    assert reconcile.run(context) == {}


def test_a_reconcile_of_a_profile_that_is_gone_creates_nothing(fleet: Fleet) -> None:
    fleet.db.rows("update profiles set is_current = false")
    plan, made = slots.create(fleet.db, fleet.profile(), lambda seen, _: CapacityPlan(seen.profile, 5, 5), MINUTE)
    assert (plan.clipped_by, made) == ("not_current", [])


def test_a_message_delivered_many_times_launches_once(fleet: Fleet, database_url: str) -> None:
    (slot,) = fleet.slots(1)
    taken = crowd(racers.take_order, [(database_url, slot.worker_id, slot.attempt)] * 16)
    assert sum(taken) == 1


def test_a_slot_whose_message_was_lost_is_published_again(fleet: Fleet, context: Context) -> None:
    (slot,) = fleet.slots(1)
    assert sweep.run(context)["republished"] == 0, "its message may still be on its way"
    fleet.backdate("launch_until", slot.worker_id, timedelta(hours=1))
    assert sweep.run(context)["republished"] == 1
    assert context.hints._redis.llen("spawn") == 1
    assert sweep.run(context)["republished"] == 0


def test_who_took_a_launch_and_was_overtaken_records_nothing(fleet: Fleet) -> None:
    (slot,) = fleet.slots(1)
    first = launches.take_order(fleet.db, slot.worker_id, 0, NO_TIME)
    assert first is not None
    (again,) = slots.unlaunched(fleet.db, MINUTE, 10)
    second = launches.take_order(fleet.db, again.worker_id, again.attempt, MINUTE)
    assert second is not None
    assert second.attempt == 2
    assert launches.placed(fleet.db, second, handle(1), "http://b:1", "node-b")
    assert not launches.placed(fleet.db, first, handle(2), "http://a:1", "node-a")
    assert fleet.db.rows("select node from workers") == [{"node": "node-b"}]
    sweeping.prune(fleet.db, MINUTE, 10)
    assert fleet.db.rows("select name from nodes") == [{"name": "node-b"}]


def test_a_slot_drained_before_its_launch_is_retired_without_one(fleet: Fleet) -> None:
    (slot,) = fleet.slots(1)
    launches.failed(fleet.db, slot.worker_id, "stuck", gone=False, first=SECOND, longest=SECOND)
    assert fleet.state(slot.worker_id) == "draining"
    assert launches.take_order(fleet.db, slot.worker_id, 0, MINUTE) is None
    assert sweeping.retire_never_launched(fleet.db, 10) == 0, "a launch may be under way"
    fleet.backdate("launch_until", slot.worker_id, timedelta(hours=1))
    assert sweeping.retire_never_launched(fleet.db, 10) == 1


def test_a_stuck_spawn_is_given_up_whoever_watched_it(fleet: Fleet, context: Context) -> None:
    (worker,) = fleet.launched(1)
    assert sweep.run(context)["stuck"] == 0
    fleet.backdate("created_at", worker, timedelta(hours=1))
    assert sweep.run(context)["stuck"] == 1
    assert fleet.state(worker) == "draining"


def test_unlaunched_slots_are_bounded_by_the_batch_whatever_the_plan(fleet: Fleet, looping_db: Database) -> None:
    fleet.slots(5)
    fleet.db.rows("update workers set launch_until = now() - interval '1 s'")
    assert [len(slots.unlaunched(looping_db, MINUTE, 3)) for _ in range(3)] == [3, 2, 0]


@pytest.mark.parametrize("floor", [0, 4])
def test_the_floor_comes_from_the_settings_and_is_never_written_back(
    fleet: Fleet, make_settings: MakeSettings, make_context: MakeContext, floor: int
) -> None:
    context = make_context(make_settings(profiles={"echo": profiles.echo(floor=floor), "other": profiles.echo()}))
    context.prepare()
    for burst in range(5):
        fleet.ticket(f"t{burst}", "job")
        reconcile.run(context)
        for (worker,) in [(row["id"],) for row in fleet.db.rows("select id from workers where state = 'spawning'")]:
            row = fleet.db.row("select launch_attempts as attempt from workers where id = %(id)s", id=worker)
            assert row is not None
            fleet.launch(slots.Slot(worker, row["attempt"]), "node-1")
            fleet.ready(worker)
    rows = fleet.db.rows("select state, count(*)::int as n from workers group by state")
    assert {row["state"]: row["n"] for row in rows} == {"activating": 5} | ({"idle": floor} if floor else {})
    assert fleet.db.row("select floor from profiles where name = %(n)s", n=fleet.profile()) == {"floor": floor}


def test_the_first_slots_are_for_the_tickets_that_have_waited_longest_and_have_none_yet(fleet: Fleet) -> None:
    def ticket(tenant: str, story: str | None) -> None:
        fleet.tenant(tenant)
        taken = tickets.take(
            fleet.db,
            tenant,
            fleet.profile(),
            waiter="w",
            wake_key="k",
            ttl=MINUTE,
            at_most=9,
            correlation_id=story,
        )
        assert taken is not None

    ticket("acme", "first")
    ticket("untold", None)
    ticket("globex", "second")
    assert [slot.correlation_id for slot in fleet.slots(1)] == ["first"]
    assert [slot.correlation_id for slot in fleet.slots(3)] == ["second", None, None]
    found = fleet.db.rows("select correlation_id from workers order by id")
    assert [row["correlation_id"] for row in found] == ["first", "second", None, None]
