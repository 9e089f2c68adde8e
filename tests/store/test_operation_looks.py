"""What is known of operations beside their own rows: the runs that their trails do not have, and how many have not ended."""

from __future__ import annotations

from datetime import timedelta

from scheduler.core.operations import Place, RunState, Step, plan
from scheduler.store import operations as store
from scheduler.store.database import Database
from scheduler.store.operations import BegunRun, Operation

KEY = 'step.mesh["blue"]'
STEPS = plan([Step("step.mesh", {"network": "blue"}), Step("step.plug", {"network": "blue"})])


def submit(db: Database, target: str) -> Operation:
    return db.transaction(lambda held: store.submit(held, "refresh", target, queue="q", rank=2, plan=STEPS))


def place(operation: Operation, position: int = 0) -> Place:
    return Place(operation.id, position, operation.token)


def begin(db: Database, *places: Place, key: str = KEY, lane: str = "blue") -> BegunRun:
    leader = places[0]
    return store.begin_run(
        db,
        places,
        task_id=f"op{leader.operation}.{leader.position}-{leader.token}",
        task="step.mesh",
        key=key,
        lane=lane,
        queue="q",
        attempt=1,
        lane_wait_s=0.0,
        lease=timedelta(seconds=30),
    )


def test_the_run_that_serves_an_operation_now_is_found_by_who_leads_and_by_who_follows(db: Database) -> None:
    leader, follower, late = submit(db, "a"), submit(db, "b"), submit(db, "c")
    begun = begin(db, place(leader), place(follower))
    (led,), (followed,) = store.runs_beside(db, leader.id, KEY), store.runs_beside(db, follower.id, KEY)
    assert (led["run"], followed["run"]) == (begun.run, begun.run)
    assert (led["led_by"], led["served"], led["state"], led["ended_at"]) == (leader.id, 2, "running", None)
    assert store.runs_beside(db, late.id, "another key") == []
    assert store.runs_beside(db, late.id, None) == []


def test_a_run_that_began_before_its_turn_is_another_s(db: Database) -> None:
    earlier = submit(db, "a")
    begin(db, place(earlier))
    late = submit(db, "b")
    assert store.runs_beside(db, late.id, KEY) == []


def test_a_run_that_the_trail_has_is_not_told_twice_and_one_that_was_lost_is_told(db: Database) -> None:
    operation = submit(db, "a")
    lost = begin(db, place(operation))
    db.rows("update runs set lease_until = now() - interval '1 s'")
    again = begin(db, place(operation))
    assert [(run["run"], run["state"]) for run in store.runs_beside(db, operation.id, KEY)] == [
        (lost.run, "lost"),
        (again.run, "running"),
    ]
    store.end_run(db, again.run, RunState.RETRIED, [place(operation)], [{"how": "ran"}], "no luck")
    assert [run["run"] for run in store.runs_beside(db, operation.id, KEY)] == [lost.run]
    row = store.show(db, operation.id)
    assert row is not None
    assert (row["trail"][0]["state"], row["trail"][0]["error"]) == ("retried", "no luck")


def test_what_has_not_ended_is_counted_by_state(db: Database) -> None:
    first, second, gone = submit(db, "a"), submit(db, "b"), submit(db, "c")
    begin(db, place(first))
    store.cancel(db, gone.id)
    db.transaction(lambda held: store.submit(held, "refresh", "d", queue="q", rank=2, plan=STEPS, after=[second.id]))
    live = store.live(db)
    assert {row["state"]: row["count"] for row in live} == {"queued": 1, "running": 1, "waiting": 1}
    assert all(row["oldest_s"] >= 0 for row in live)
