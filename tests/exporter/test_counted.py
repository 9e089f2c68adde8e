"""What SQL counts: each run and operation once, whoever asks; folds by step and place; equal runs that should have been one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
import redis
from celery.signals import worker_process_shutdown
from prometheus_client import CollectorRegistry, generate_latest

from config.settings import Settings
from scheduler.core.operations import Place, RunState, Step, plan
from scheduler.store import claims, reaping, tallies
from scheduler.store import operations as store
from scheduler.store.database import Database
from scheduler.store.operations import BegunRun, Operation
from tasks.exporter.counted import Counted
from tasks.exporter.looks import Looks
from tasks.exporter.spawns import Spawns
from tasks.tallying import Tallies
from tests.conftest import MakeContext
from tests.support import racers
from tests.support.crowd import crowd
from tests.support.servers import Servers
from tests.support.wiretap import Wiretap

LEASE = timedelta(seconds=30)
DNS, MESH = "step.dns", "step.mesh"
STEPS = plan([Step(DNS, {"network": "blue"}), Step(MESH, {"network": "blue"})])
TWICE = plan([*STEPS.steps, *STEPS.steps[:1]])

Figures = dict[tuple[str, ...], float]


def figures(db: Database) -> Figures:
    """What is not 0, by name and values of labels; that of a histogram, its sum and count."""
    counted = Counted(["echo"], [DNS, MESH], ["refresh"])
    return {
        (sample.name.removeprefix("stoker_"), *sample.labels.values()): sample.value
        for metric in counted.read(db)
        for sample in metric.samples
        if sample.value and not sample.name.endswith("_bucket")
    }


def submit(db: Database, *, steps: Any = STEPS, target: str = "blue", **links: Any) -> Operation:
    return db.transaction(
        lambda connection: store.submit(connection, "refresh", target, queue="q", rank=2, plan=steps, **links)
    )


def at(operation: Operation, position: int = 0) -> Place:
    return Place(operation.id, position, operation.token)


def begin(
    db: Database, places: Sequence[Place], *, task: str = DNS, lane: str = "blue", key: str = "k", wait_s: float = 0.0
) -> BegunRun:
    return store.begin_run(
        db,
        places,
        task_id=f"op{places[0].operation}.{places[0].position}",
        task=task,
        key=key,
        lane=lane,
        queue="q",
        attempt=1,
        lane_wait_s=0.0,
        wait_s=wait_s,
        folded=len(places) - 1,
        lease=LEASE,
    )


def run(db: Database, *places: Place, state: RunState = RunState.SUCCEEDED, **how: Any) -> None:
    entries = [{"how": "ran"}] + [{"how": "folded"}] * (len(places) - 1)
    assert store.end_run(db, begin(db, places, **how).run, state, places, entries) is not None


def later(db: Database, seconds: float) -> None:
    """Let time pass for every run that there is."""
    db.rows(
        "update runs set began_at = began_at - %(by)s, ended_at = ended_at - %(by)s returning id",
        by=timedelta(seconds=seconds),
    )


def test_folds_are_told_by_step_and_place_beside_what_was_asked_for(db: Database) -> None:
    first, other = submit(db, steps=TWICE), submit(db, target="blue/a")
    assert submit(db, steps=TWICE).id == first.id, "an equal operation that has not begun is returned as it is"
    run(db, at(first), at(other), task=MESH)
    run(db, at(first, 1), at(other, 1), task=DNS)
    assert figures(db) == {
        ("step_requests_total", MESH): 2 + 1,
        ("step_requests_total", DNS): 2 + 1 + 2,
        ("folds_total", MESH, "on_submit"): 1,
        ("folds_total", DNS, "at_worker"): 1,
        ("folds_total", DNS, "in_operation"): 2,  # once for each of the two submits
        ("folds_total", DNS, "equal_operation"): 1,
        ("folds_total", MESH, "equal_operation"): 1,
        ("step_runs_total", MESH, "succeeded"): 1,
        ("step_runs_total", DNS, "succeeded"): 1,
        ("operations_submitted_total", "refresh"): 3,
        ("operations_ended_total", "refresh", "succeeded"): 2,
    }


def test_what_ended_is_counted_once_however_often_it_is_read_and_stays_when_it_is_pruned(db: Database) -> None:
    operation = submit(db)
    run(db, at(operation))
    assert figures(db)["step_runs_total", DNS, "succeeded"] == 1
    run(db, at(operation, 1), task=MESH)
    whole = figures(db)
    assert (whole["step_runs_total", DNS, "succeeded"], whole["step_runs_total", MESH, "succeeded"]) == (1, 1)
    assert figures(db) == whole
    db.rows("update operations set ended_at = now() - interval '1 day' where ended_at is not null returning id")
    later(db, 86_400)
    assert store.prune(db, timedelta(hours=1), 100) == 3
    assert figures(db) == whole


def test_a_run_that_is_tried_again_leaves_its_requests_to_the_next(db: Database) -> None:
    one, two = submit(db), submit(db, target="red")
    run(db, at(one), at(two), state=RunState.RETRIED)
    run(db, at(one), at(two))
    found = figures(db)
    assert (found["step_runs_total", DNS, "retried"], found["step_runs_total", DNS, "succeeded"]) == (1, 1)
    assert (found["step_requests_total", DNS], found["folds_total", DNS, "on_submit"]) == (2, 1)


def test_processes_that_count_at_once_count_each_run_once(database_url: str, db: Database) -> None:
    for number in range(20):
        operation = submit(db, target=f"n{number}")
        run(db, at(operation), lane=f"l{number}")
        store.cancel(db, operation.id)
    counted = crowd(racers.count_ended, [(database_url, 7)] * 4)
    assert sum(counted) == 40, "runs and operations"
    found = figures(db)
    assert (found["step_runs_total", DNS, "succeeded"], found["operations_ended_total", "refresh", "cancelled"]) == (
        20,
        20,
    )


@pytest.mark.parametrize(
    ("second", "missed"),
    [
        ({"wait_s": 9.0}, 1),
        ({"wait_s": 9.0, "key": f"k {'0' * 32}"}, 1),
        ({"wait_s": 2.0}, 0),
        ({"wait_s": 9.0, "key": "another"}, 0),
        ({"wait_s": 9.0, "lane": "red"}, 0),
    ],
    ids=["waited since before", "kept apart by a mark", "asked for since", "of another key", "of another lane"],
)
def test_a_run_that_waited_when_an_equal_one_began_was_not_folded(
    db: Database, second: dict[str, Any], missed: int
) -> None:
    one, two = submit(db), submit(db, target="red")
    run(db, at(one))
    later(db, 5)
    run(db, at(two), **second)
    assert figures(db).get(("folds_missed_total", DNS), 0) == missed
    run(db, at(two, 1), task=MESH, key="other")
    assert figures(db).get(("folds_missed_total", DNS), 0) == missed, "counted once"


def test_no_more_is_counted_at_once_than_may_be(db: Database) -> None:
    for _ in range(3):
        operation = submit(db)
        run(db, at(operation))
        store.cancel(db, operation.id)
    assert [tallies.count_ended(db, 2) for _ in range(3)] == [4, 2, 0]


def test_a_claim_is_told_by_its_end_and_how_long_it_took(db: Database) -> None:
    counts = Tallies(db)
    for took_s in (0.002, 0.002, 7.0, 3_600.0):
        counts.claim("echo", "held", "warm", took_s)
    counts.claim("echo", "miss", "tenant_cap", 0.001)
    assert counts.flush()
    (metric,) = [one for one in Counted(["echo"], [], []).read(db) if one.name == "stoker_claim_seconds"]
    warm = {(s.name, s.labels.get("le")): s.value for s in metric.samples if s.labels["outcome"] == "warm"}
    below = {edge: value for (name, edge), value in warm.items() if edge is not None}
    assert [below[edge] for edge in ("0.001", "0.0025", "5.0", "10.0", "60.0", "+Inf")] == [0, 2, 2, 3, 3, 4]
    assert warm["stoker_claim_seconds_sum", None] == pytest.approx(3_607.004)
    found = figures(db)
    assert found["claims_total", "echo", "held", "warm"] == 4
    assert found["claims_total", "echo", "miss", "tenant_cap"] == 1
    assert found["claim_seconds_count", "miss"] == 1


def test_a_child_of_a_pool_carries_the_rest_when_it_leaves(db: Database) -> None:
    counts = Tallies(db, period_s=3_600.0)
    counts.claim("echo", "miss", "no_warm", 0.001)
    assert figures(db) == {}
    worker_process_shutdown.send(sender=None)
    assert figures(db)["claims_total", "echo", "miss", "no_warm"] == 1


def test_what_the_database_does_not_take_is_kept_and_taken_later(own_database_url: str) -> None:
    db = Database(own_database_url)
    counts = Tallies(db, period_s=3_600.0)
    counts.claim("echo", "miss", "no_warm", 0.001)
    db.rows("alter table tallies rename to away")
    assert not counts.flush()
    counts.claim("echo", "miss", "no_warm", 0.001)
    db.rows("alter table away rename to tallies")
    assert counts.flush()
    assert figures(db)["claims_total", "echo", "miss", "no_warm"] == 2
    db.close()


def test_a_claim_asks_the_database_no_more_for_being_counted(
    settings: Settings, db: Database, wiretap: Wiretap, make_context: MakeContext
) -> None:
    assert reaping.set_draining(db, settings.profiles["echo"].canonical, draining=True)
    claims.admit_tenant(db, "acme", 0)
    pool = make_context(settings.model_copy(update={"database_url": wiretap.url})).pool
    pool.tallies = Tallies(pool._db, period_s=3_600.0)
    for _ in range(5):  # opens the connection, prepares the statement
        pool.claim("acme", "echo")
    with wiretap.counting() as claiming:
        for _ in range(5):
            pool.claim("acme", "echo")
    with wiretap.counting() as carrying:
        assert pool.tallies.flush()
    assert (claiming, carrying) == ([5], [1])
    assert figures(db)["claims_total", "echo", "miss", "draining"] == 10


def test_a_scrape_asks_as_often_whatever_there_is(
    servers: Servers, settings: Settings, db: Database, tapped_db: Database, wiretap: Wiretap
) -> None:
    registry = CollectorRegistry()
    with closing(redis.Redis.from_url(servers.redis_client_url, decode_responses=True)) as client:
        spawns, counted = Spawns(registry), Counted(settings.profiles, [DNS, MESH], ["refresh"])
        registry.register(Looks(client, tapped_db, settings.all_queues, lambda: True, spawns, counted))

        def asked() -> int:
            with wiretap.counting() as trips:
                generate_latest(registry)
            return trips[0]

        for _ in range(3):  # connects, prepares
            asked()
        before = asked()
        for number in range(20):
            operation = submit(db, target=f"n{number}")
            run(db, at(operation), lane=f"l{number}")
        assert asked() == before == 9, "as docs/metrics.md says"
