"""Who is drained is looked at again in the statement that drains it; nodes live as long as their workers."""

from __future__ import annotations

import platform
from datetime import timedelta

from scheduler.store import launches, reaping, sweeping
from scheduler.store.database import Database
from tasks import reap, sweep
from tasks.context import Context
from tests.support import racers
from tests.support.crowd import crowd
from tests.support.fleet import MINUTE, NO_TIME, Fleet, handle

KEEP = timedelta(days=7)


def test_a_worker_claimed_between_plan_and_drain_survives(fleet: Fleet) -> None:
    workers = fleet.idle(3)
    held = fleet.hold("acme")
    drained = reaping.drain_idle(fleet.db, fleet.profile(), workers, 0, NO_TIME, "test")
    assert set(drained) == set(workers) - {held.worker_id}
    assert fleet.state(held.worker_id) == "active"


def test_a_worker_being_claimed_at_this_instant_survives(fleet: Fleet) -> None:
    workers = fleet.idle(2)
    fleet.tenant("acme")
    with fleet.db.connection() as claiming, claiming.transaction():
        row = claiming.execute(
            "select worker_id from claim_worker('acme', %s, '', interval '1 min')", [fleet.profile()]
        ).fetchone()
        assert row is not None
        drained = reaping.drain_idle(fleet.db, fleet.profile(), workers, 0, NO_TIME, "test")
    assert drained == [worker for worker in workers if worker != row["worker_id"]]
    assert fleet.state(row["worker_id"]) == "activating"


def test_reapers_at_once_never_go_below_the_floor(fleet: Fleet, database_url: str) -> None:
    workers = fleet.idle(12)
    drained = crowd(racers.reap, [(database_url, fleet.profile(), workers, 5)] * 8)
    assert sum(map(len, drained)) == 7
    assert fleet.states(workers).count("idle") == 5


def test_a_worker_that_is_not_stale_any_more_survives(fleet: Fleet) -> None:
    workers = fleet.idle(2)
    assert reaping.drain_idle(fleet.db, fleet.profile(), workers, 0, MINUTE, "test") == []


def test_the_tick_drains_the_stale_above_the_floor_on_the_newest_node(fleet: Fleet, context: Context) -> None:
    old = fleet.idle(2, node="old")
    new = fleet.idle(2, node="new")
    assert reap.run(context) == 0, "nothing is stale yet"
    for worker in old + new:
        fleet.backdate("ready_at", worker, timedelta(hours=1))
    assert reap.run(context) == 2
    assert fleet.states(old) == ["idle", "idle"]
    assert fleet.states(new) == ["draining", "draining"]
    assert context.hints._redis.llen("background") == 2
    assert reap.run(context) == 0


def test_a_worker_never_used_is_idle_since_it_was_ready(fleet: Fleet, context: Context) -> None:
    # One that was never claimed has no last use: idle since must not be zero, nor for ever young.
    stale = fleet.idle(3)
    for worker in stale:
        fleet.backdate("created_at", worker, timedelta(hours=9))
    assert reap.run(context) == 0
    for worker in stale:
        fleet.backdate("ready_at", worker, timedelta(hours=9))
    assert reap.run(context) == 1


def test_what_touches_a_row_does_not_make_an_idle_worker_immortal(fleet: Fleet, context: Context) -> None:
    workers = fleet.idle(3)
    for worker in workers:
        fleet.backdate("ready_at", worker, timedelta(hours=9))
    reaping.cordon(fleet.db, "node-1", cordoned=True)
    fleet.db.rows("update workers set activation_key = 'renewed', state_since = now()")
    assert reap.run(context) == 1


def test_the_tick_drains_what_nobody_can_have_first_and_never_what_it_does_not_stand_in_for(
    fleet: Fleet, context: Context
) -> None:
    shut = fleet.idle(3, node="leaving")
    for worker in shut:
        fleet.backdate("ready_at", worker, timedelta(hours=1))
    reaping.cordon(fleet.db, "leaving", cordoned=True)
    fleet.idle(1, node="stays")
    assert reap.run(context) == 2
    assert fleet.states(shut).count("idle") == 1
    fleet.idle(1, node="stays")
    assert reap.run(context) == 1
    assert set(fleet.states(shut)) == {"draining"}


def test_a_drain_looks_again_at_what_is_closed_by_now(fleet: Fleet) -> None:
    shut, kept = fleet.idle(2, node="leaving"), fleet.idle(2, node="stays")
    reaping.cordon(fleet.db, "leaving", cordoned=True)
    # Planned when the others were closed.
    assert reaping.drain_idle(fleet.db, fleet.profile(), kept, 2, NO_TIME, "test") == []
    assert set(reaping.drain_idle(fleet.db, fleet.profile(), kept + shut, 2, NO_TIME, "test")) == set(shut)


def test_workers_of_a_profile_that_changed_are_let_go_at_once(fleet: Fleet, context: Context) -> None:
    workers = fleet.idle(3)
    fleet.db.rows("update profiles set is_current = false where name = %(name)s", name=fleet.profile())
    assert reap.run(context) == 3
    assert set(fleet.states(workers)) == {"draining"}


def test_a_node_is_pruned_with_its_last_worker_and_its_age_is_durable(fleet: Fleet) -> None:
    first, second = fleet.idle(2, node="node-a")
    fleet.db.rows("update nodes set first_seen = now() - interval '1 day'")
    seen = fleet.db.rows("select first_seen from nodes")
    launches.gone(fleet.db, first, handle(first), "killed")
    sweeping.prune(fleet.db, KEEP, 10)
    assert fleet.db.rows("select first_seen from nodes") == seen
    (third,) = fleet.idle(1, node="node-a")
    assert fleet.db.rows("select first_seen from nodes") == seen, "a new worker makes no node younger"
    assert fleet.db.rows("select node_first_seen as first_seen from workers where id = %(id)s", id=third) == seen
    for worker in (second, third):
        launches.gone(fleet.db, worker, handle(worker), "killed")
    sweeping.prune(fleet.db, KEEP, 10)
    assert fleet.db.rows("select name from nodes") == []


def test_a_node_about_to_get_a_worker_is_not_pruned_under_it(fleet: Fleet) -> None:
    (old,) = fleet.idle(1, node="node-a")
    launches.gone(fleet.db, old, handle(old), "killed")
    (slot,) = fleet.slots(1)
    order = launches.take_order(fleet.db, slot.worker_id, 0, MINUTE)
    assert order is not None
    assert launches.placed(fleet.db, order, handle(2), "http://a:1", "node-a")
    sweeping.prune(fleet.db, KEEP, 10)
    assert fleet.db.rows("select name from nodes") == [{"name": "node-a"}]


def test_history_past_its_keep_is_forgotten_a_batch_at_a_time(fleet: Fleet, looping_db: Database) -> None:
    workers = fleet.idle(5)
    for worker in workers:
        launches.gone(fleet.db, worker, handle(worker), "killed")
    fleet.db.rows("delete from events; delete from nodes")
    assert sweeping.prune(fleet.db, KEEP, 3) == 0
    fleet.db.rows("update workers set ended_at = now() - interval '8 days'")
    assert [sweeping.prune(looping_db, KEEP, 3) for _ in range(3)] == [3, 2, 0]


def test_a_row_whose_process_vanished_is_mended_only_by_who_can_see(fleet: Fleet, context: Context) -> None:
    (worker,) = fleet.idle(1)  # its handle is of a host that is not this one
    fleet.backdate("launched_at", worker, timedelta(hours=1))
    assert sweep.run(context)["ghosts"] == 0
    fleet.db.rows(
        "update workers set handle = handle || jsonb_build_object('host', %(host)s::text)", host=platform.node()
    )
    assert sweep.run(context)["ghosts"] == 1
    assert fleet.state(worker) == "lost"
