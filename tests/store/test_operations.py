"""Operations in SQL: no id before its row, one pending of each kind, one run a lane, an end that is told to all it served."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command

from scheduler.core.operations import OperationState, Place, Plan, RunState, Step, plan
from scheduler.errors import Refused
from scheduler.store import operations as store
from scheduler.store.database import Database
from scheduler.store.migrate import alembic_config, migrate, sqlalchemy_url
from scheduler.store.operations import BegunRun, Operation
from tests.support import racers
from tests.support.crowd import crowd
from tests.support.wiretap import Wiretap

LEASE = timedelta(seconds=30)
DNS, MESH = Step("step.dns", {"network": "blue"}), Step("step.mesh", {"network": "blue"})


def submit(db: Database, target: str = "blue", *, steps: Plan | None = None, rank: int = 2, **links: Any) -> Operation:
    return db.transaction(
        lambda connection: store.submit(
            connection, "refresh", target, queue=f"q{rank}", rank=rank, plan=steps or plan([DNS, MESH]), **links
        )
    )


def place(operation: Operation, position: int = 0) -> Place:
    return Place(operation.id, position, operation.token)


def begin(db: Database, *places: Place, lane: str = "blue", lease: timedelta = LEASE, task_id: str = "") -> BegunRun:
    return store.begin_run(
        db,
        places,
        task_id=task_id or f"op{places[0].operation}",
        task="step.dns",
        key="key",
        lane=lane,
        queue="q",
        attempt=1,
        lane_wait_s=0.0,
        lease=lease,
    )


def end(
    db: Database, begun: BegunRun, *places: Place, state: RunState = RunState.SUCCEEDED, error: str | None = None
) -> Any:
    return store.end_run(
        db, begun.run, state, places, [{"how": "ran"}] + [{"how": "folded"}] * (len(places) - 1), error
    )


def state(db: Database, operation: Operation) -> tuple[str, int]:
    row = store.show(db, operation.id)
    assert row is not None
    return row["state"], row["step"]


def run_whole(db: Database, operation: Operation, *, fails: bool = False) -> list[int]:
    """All its steps, one after the other; the operations that its end lets go."""
    for position in range(2):
        begun = begin(db, place(operation, position), lane=f"of {operation.id}")
        failed = fails and position == 1
        outcome = RunState.FAILED if failed else RunState.SUCCEEDED
        released = end(db, begun, place(operation, position), state=outcome, error="no" if failed else None)
    return [one.id for one in released]


def test_a_wholly_equal_operation_that_has_not_begun_is_returned_as_it_is(db: Database) -> None:
    first = submit(db)
    again = submit(db)
    assert (again.id, again.is_new) == (first.id, False)
    row = store.show(db, first.id)
    assert row is not None
    assert row["asked"] == 2
    assert submit(db, rank=3).id == first.id, "a less urgent request is served by it as well"


@pytest.mark.parametrize(
    "other",
    [
        {"target": "red"},
        {"steps": plan([DNS])},
        {"rank": 1},  # more urgent: it must not wait in the other's queue
    ],
    ids=str,
)
def test_an_operation_that_differs_is_another(db: Database, other: dict[str, Any]) -> None:
    assert submit(db).id != submit(db, **other).id


def test_an_operation_that_has_begun_is_not_returned(db: Database) -> None:
    first = submit(db)
    begin(db, place(first))
    assert submit(db).id != first.id, "it may have read what was wanted before this was asked"


def test_one_that_is_folded_into_a_run_that_begins_counts_as_begun(db: Database) -> None:
    leader, follower = submit(db, "red"), submit(db)
    begin(db, place(leader), place(follower))
    assert state(db, follower) == ("running", 0)
    assert submit(db).id != follower.id


def test_one_with_needs_neither_is_returned_nor_returns_another(db: Database) -> None:
    first = submit(db)
    second = submit(db, needs=[first.id])
    third = submit(db, after=[first.id])
    assert len({first.id, second.id, third.id}) == 3
    run_whole(db, first)
    assert submit(db).id not in {second.id, third.id}, "it was asked for with an order, and keeps its own place"


def test_of_24_processes_that_submit_the_same_one_writes_a_row(db: Database, database_url: str) -> None:
    found = crowd(racers.submit_refresh, [(database_url, "blue")] * 24)
    assert len({id_ for id_, _ in found}) == 1
    assert sum(is_new for _, is_new in found) == 1
    assert db.row("select asked from operations") == {"asked": 24}


def test_no_request_is_given_an_operation_that_had_begun_when_it_was_made(db: Database) -> None:
    """Each round: a change, a submit, and a begin that reads the change, all at once."""
    db.rows("create table if not exists wanted (n int)")
    with ThreadPoolExecutor(2) as threads:
        for number in range(60):
            db.rows("truncate wanted")
            old = submit(db)
            gate = threading.Barrier(2)

            def change(gate: threading.Barrier = gate) -> Operation:
                gate.wait()
                db.rows("insert into wanted values (1)")
                return submit(db)

            def run(gate: threading.Barrier = gate, old: Operation = old) -> bool:
                gate.wait()
                begun = begin(db, place(old))
                saw = db.row("select n from wanted") is not None
                end(db, begun, place(old))
                return saw

            asked, ran = threads.submit(change), threads.submit(run)
            assert asked.result().id != old.id or ran.result(), f"round {number}: the update was lost"
            ran.result()
            for row in store.recent(db, limit=10, state="queued"):
                store.cancel(db, row["id"])
            begun = begin(db, place(old, 1))
            end(db, begun, place(old, 1))
    db.rows("drop table wanted")


def test_it_waits_for_what_it_needs_and_for_what_it_comes_after(db: Database) -> None:
    first, second = submit(db, "a"), submit(db, "b")
    third = submit(db, needs=[first.id], after=[second.id])
    assert third.state is OperationState.WAITING
    assert store.steps(db, third.id) is None, "nobody can publish it"
    assert begin(db, place(third)).verdict == "ended"
    assert run_whole(db, first) == []
    assert run_whole(db, second) == [third.id]
    assert state(db, third) == ("queued", 0)


def test_what_comes_after_a_failure_goes_on_and_what_needs_it_fails_with_it(db: Database) -> None:
    first = submit(db, "a")
    after, needs = submit(db, "b", after=[first.id]), submit(db, "c", needs=[first.id])
    further = submit(db, "d", needs=[needs.id])
    last = submit(db, "e", after=[further.id])
    assert sorted(run_whole(db, first, fails=True)) == [after.id, last.id]
    assert [state(db, one)[0] for one in (needs, further)] == ["failed", "failed"]
    row = store.show(db, needs.id)
    assert row is not None
    assert row["error"] == f"needs operation {first.id}, which failed"


def test_one_that_waits_for_what_has_ended_is_queued_at_once(db: Database) -> None:
    first = submit(db)
    run_whole(db, first)
    assert submit(db, needs=[first.id]).state is OperationState.QUEUED


@pytest.mark.parametrize("links", ["needs", "after"])
def test_an_unknown_operation_is_refused_and_nothing_is_written(db: Database, links: str) -> None:
    with pytest.raises(Refused, match="operation 1000000000 is not known"):
        submit(db, **{links: [10**9]})
    assert store.recent(db, limit=10) == []


def test_what_needs_a_failure_is_refused(db: Database) -> None:
    first = submit(db)
    run_whole(db, first, fails=True)
    with pytest.raises(Refused, match="has failed, and is needed"):
        submit(db, needs=[first.id])
    assert submit(db, after=[first.id]).state is OperationState.QUEUED


def test_many_dependents_are_released_once_each_however_their_needs_end(db: Database, database_url: str) -> None:
    needs = [submit(db, f"n{number}") for number in range(8)]
    dependents = [submit(db, f"d{number}", needs=[one.id for one in needs]) for number in range(5)]
    released = crowd(racers.run_to_the_end, [(database_url, one.id, one.token) for one in needs])
    assert sorted(id_ for ids in released for id_ in ids) == [one.id for one in dependents]
    assert {state(db, one)[0] for one in dependents} == {"queued"}


def test_one_run_a_lane_under_16_processes(db: Database, database_url: str) -> None:
    all_ = [submit(db, f"t{number}") for number in range(16)]
    found = crowd(racers.begin_step, [(database_url, one.id, one.token, "lane") for one in all_])
    assert sorted(found) == ["busy"] * 15 + ["run"]
    assert [row["n"] for row in db.rows("select count(*)::int as n from runs where state = 'running'")] == [1]


def test_a_busy_lane_names_its_holder_and_leaves_the_operation_queued(db: Database) -> None:
    first, second = submit(db, "a"), submit(db, "b")
    holder = begin(db, place(first), task_id="holder")
    busy = begin(db, place(second))
    assert (busy.verdict, busy.holder, busy.run) == ("busy", "holder", holder.run)
    assert 0 < busy.lease_left_s <= 30
    assert state(db, second) == ("queued", 0)
    assert begin(db, place(second), lane="another").verdict == "run"


def test_a_lane_whose_run_has_gone_silent_is_taken_over_and_its_end_is_not_believed(db: Database) -> None:
    first, second = submit(db, "a"), submit(db, "b")
    silent = begin(db, place(first), lease=timedelta(0))
    assert begin(db, place(second)).verdict == "run"
    assert end(db, silent, place(first)) is None
    assert state(db, first) == ("running", 0), "its step is still to be done"


def test_a_sign_of_life_keeps_the_lane(db: Database) -> None:
    first, second = submit(db, "a"), submit(db, "b")
    slow = begin(db, place(first), lease=timedelta(0))
    store.renew_runs(db, [slow.run], LEASE)
    assert begin(db, place(second)).verdict == "busy"
    assert store.is_running(db, slow.run)
    assert store.lose_runs(db, 10) == 0


def test_a_step_is_done_once_whoever_delivers_it_again(db: Database) -> None:
    one = submit(db)
    end(db, begin(db, place(one)), place(one))
    assert begin(db, place(one)).verdict == "done"
    run = begin(db, place(one, 1))
    end(db, run, place(one, 1))
    assert state(db, one) == ("succeeded", 2)
    assert [begin(db, place(one, position)).verdict for position in range(2)] == ["done", "done"]
    assert end(db, run, place(one, 1)) is None


def test_an_end_moves_those_whose_turn_it_was_and_nobody_else(db: Database) -> None:
    leader, follower, ahead, gone = (submit(db, name) for name in "abcd")
    end(db, begin(db, place(ahead)), place(ahead))
    store.cancel(db, gone.id)
    places = [place(one) for one in (leader, follower, ahead, gone)]
    end(db, begin(db, *places), *places)
    assert [state(db, one) for one in (leader, follower, ahead, gone)] == [
        ("running", 1),
        ("running", 1),
        ("running", 1),
        ("cancelled", 0),
    ]
    row = store.show(db, follower.id)
    assert row is not None
    assert [(entry["how"], entry["step"], entry["state"]) for entry in row["trail"]] == [("folded", 0, "succeeded")]


def test_a_leader_whose_operation_was_cancelled_runs_for_those_who_follow(db: Database) -> None:
    leader, follower = submit(db, "a"), submit(db, "b")
    store.cancel(db, leader.id)
    begun = begin(db, place(leader), place(follower))
    assert begun.verdict == "run"
    end(db, begun, place(leader), place(follower))
    assert (state(db, leader), state(db, follower)) == (("cancelled", 0), ("running", 1))


def test_a_retried_run_leaves_its_operations_where_they_are(db: Database) -> None:
    one = submit(db)
    end(db, begin(db, place(one)), place(one), state=RunState.RETRIED, error="not yet")
    assert state(db, one) == ("running", 0)
    assert begin(db, place(one)).verdict == "run"


def test_a_cancelled_operation_lets_go_who_came_after_it(db: Database) -> None:
    first = submit(db, "a")
    after = submit(db, "b", after=[first.id])
    cancelled = store.cancel(db, first.id)
    assert cancelled is not None
    assert cancelled[0] == place(first)
    assert [one.id for one in cancelled[1]] == [after.id]
    assert store.cancel(db, first.id) is None


def test_an_end_is_told_to_who_asked_to_hear_it(db: Database, database_url: str) -> None:
    heard, unheard = submit(db, "a"), submit(db, "b")
    with closing(psycopg.connect(database_url, autocommit=True)) as listening:
        listening.execute("listen stoker_operations")
        assert store.await_end(db, heard.id) is False
        run_whole(db, unheard)
        run_whole(db, heard)
        told = [notice.payload for notice in listening.notifies(timeout=5, stop_after=1)]
        assert told == [str(heard.id)]
    assert store.await_end(db, heard.id) is True
    assert store.await_end(db, 10**9) is None


def test_what_was_not_seen_for_long_is_looked_at_once_and_in_bounds(db: Database) -> None:
    all_ = [submit(db, f"t{number}") for number in range(5)]
    submit(db, "waits", needs=[all_[0].id])
    db.rows("update operations set seen_at = now() - interval '1 min'")
    assert len(store.unseen(db, timedelta(seconds=15), 3)) == 3
    assert len(store.unseen(db, timedelta(seconds=15), 3)) == 2
    assert store.unseen(db, timedelta(seconds=15), 3) == []


def test_history_goes_by_age_and_not_by_outcome(db: Database) -> None:
    good, bad, live = (submit(db, name) for name in "abc")
    run_whole(db, good)
    run_whole(db, bad, fails=True)
    db.rows("update operations set ended_at = ended_at - interval '1 day' where ended_at is not null")
    db.rows("update runs set ended_at = ended_at - interval '1 day'")
    assert store.prune(db, timedelta(hours=1), 100) == 2 + 4
    assert [row["id"] for row in store.recent(db, limit=10)] == [live.id]


def test_round_trips_are_one_to_submit_and_two_a_step_for_all_who_share_it(
    db: Database, tapped_db: Database, wiretap: Wiretap
) -> None:
    all_ = [submit(db, f"t{number}") for number in range(100)]
    places = [place(one) for one in all_]
    tapped_db.row("select 1")
    with wiretap.counting() as counted:
        end(tapped_db, begin(tapped_db, *places), *places)
    assert counted == [2]
    assert {state(db, one) for one in all_} == {("running", 1)}


def test_a_run_keeps_what_its_start_waited_for_and_tells_all_it_served(db: Database) -> None:
    leader, follower = submit(db, "red"), submit(db)
    waited = {"wait_s": 2.5, "lane_wait_s": 1.5, "defers": 2, "folded": 1}
    begun = store.begin_run(
        db, [place(leader), place(follower)], task_id="t", task="step.dns", key="key", lane="blue", queue="q",
        attempt=1, lease=LEASE, **waited,
    )  # fmt: skip
    (run,) = store.runs_beside(db, leader.id, None)
    assert {name: run[name] for name in waited} == waited
    end(db, begun, place(leader), place(follower))
    for operation in (leader, follower):
        row = store.show(db, operation.id)
        assert row is not None
        assert {name: row["trail"][0][name] for name in waited} == waited


def test_a_wait_that_nobody_knows_is_none_and_no_number_is_a_debt(db: Database) -> None:
    operation = submit(db)
    begun = begin(db, place(operation))
    (run,) = store.runs_beside(db, operation.id, None)
    assert (run["wait_s"], run["defers"], run["folded"]) == (None, 0, 0)
    for column in ("wait_s", "defers", "folded"):
        with pytest.raises(psycopg.errors.CheckViolation, match="waits_are_no_debts"):
            db.rows(f"update runs set {column} = -1 where id = %(id)s", id=begun.run)  # type: ignore[arg-type]  # noqa: S608


def test_runs_before_the_waits_were_kept_come_through_the_migration_and_back(own_database_url: str) -> None:
    def to(revision: str) -> None:
        engine = sa.create_engine(sqlalchemy_url(own_database_url), poolclass=sa.NullPool)
        with engine.begin() as connection:
            there = alembic_config(connection)
            (command.downgrade if revision < "0004" else command.upgrade)(there, revision)
        engine.dispose()

    with closing(Database(own_database_url)) as old:
        leader, follower = submit(old, "red"), submit(old)
        begin(old, place(leader), place(follower), lane="both")
        begin(old, place(submit(old, "green")), lane="one")
    to("0003")
    with closing(Database(own_database_url)) as old:
        columns = [key for row in old.rows("select * from runs order by id") for key in row]
        assert not {"wait_s", "defers", "folded"} & set(columns)
    migrate(own_database_url)
    with closing(Database(own_database_url)) as new:
        found = new.rows("select served, folded, wait_s, defers from runs order by id")
        assert [(r["served"], r["folded"], r["wait_s"], r["defers"]) for r in found] == [
            (2, 1, None, 0),
            (1, 0, None, 0),
        ]
        assert begin(new, place(submit(new, "blue")), lane="three").verdict == "run"
        overloads = new.row("select count(*)::int as n from pg_proc where proname = 'begin_run'")
        assert overloads == {"n": 1}
