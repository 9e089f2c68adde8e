"""What a platform says of its nodes and of spawns that came to nothing, as it is recorded."""

from __future__ import annotations

from datetime import timedelta

import pytest

from scheduler.core.backoff import Pace
from scheduler.store import launches, reaping
from scheduler.store.claims import Claim
from tests.support.fleet import MINUTE, Fleet, handle


def offered(fleet: Fleet) -> bool:
    fleet.tenant("acme")
    return isinstance(fleet.claim("acme"), Claim)


def test_what_the_platform_closes_is_offered_to_nobody_until_it_opens_it(fleet: Fleet) -> None:
    fleet.idle(node="n1")
    assert reaping.follow_platform(fleet.db, {"n1": True, "elsewhere": True}) == {"n1": True}
    assert not offered(fleet)
    assert reaping.follow_platform(fleet.db, {"n1": True}) == {}
    assert reaping.follow_platform(fleet.db, {"n1": False}) == {"n1": False}
    assert offered(fleet)


@pytest.mark.parametrize("operator_first", [True, False])
def test_neither_opens_what_the_other_closed(fleet: Fleet, operator_first: bool) -> None:  # noqa: FBT001
    fleet.idle(node="n1")
    reaping.cordon(fleet.db, "n1", cordoned=True)
    reaping.follow_platform(fleet.db, {"n1": True})
    opens = [
        lambda: reaping.cordon(fleet.db, "n1", cordoned=False),
        lambda: reaping.follow_platform(fleet.db, {"n1": False}),
    ]
    first, second = opens if operator_first else opens[::-1]
    first()
    assert not offered(fleet)
    second()
    assert offered(fleet)


def test_a_worker_that_becomes_ready_on_a_closed_node_is_offered_to_nobody(fleet: Fleet) -> None:
    (slot,) = fleet.slots(1)
    order = launches.take_order(fleet.db, slot.worker_id, slot.attempt, MINUTE)
    assert order
    assert launches.placed(fleet.db, order, handle(slot.worker_id), None, None)
    launches.located(fleet.db, slot.worker_id, handle(slot.worker_id), "http://n1:1", "n1", unschedulable=True)
    fleet.ticket("acme", "waits")
    assert fleet.ready(slot.worker_id) == ("spawning", None)
    reaping.follow_platform(fleet.db, {"n1": False})
    state, grant = fleet.ready(slot.worker_id)
    assert state == "activating"
    assert grant is not None


def test_a_worker_is_where_its_own_handle_says_and_nobody_elses(fleet: Fleet) -> None:
    (slot,) = fleet.slots(1)
    order = launches.take_order(fleet.db, slot.worker_id, slot.attempt, MINUTE)
    assert order
    assert launches.placed(fleet.db, order, handle(slot.worker_id), None, None)
    launches.located(fleet.db, slot.worker_id, handle(slot.worker_id + 1), "http://n9:1", "n9", unschedulable=False)
    known = launches.look_up(fleet.db, slot.worker_id)
    assert known
    assert known.endpoint is None
    assert fleet.ready(slot.worker_id)[0] is None, "nobody could reach it"


@pytest.mark.parametrize(("pace", "waits_s"), [(Pace.NONE, 0), (Pace.GROWING, 60), (Pace.LONGEST, 300)])
def test_a_spawn_that_failed_is_told_by_why_and_waits_by_it(fleet: Fleet, pace: Pace, waits_s: int) -> None:
    (worker,) = fleet.launched(1)
    launches.failed(
        fleet.db,
        worker,
        "quota: the namespace is full",
        gone=True,
        first=timedelta(seconds=60),
        longest=timedelta(seconds=300),
        outcome="quota",
        pace=pace,
    )
    (event,) = fleet.db.rows("select detail from events where kind = 'spawn.failed' and worker_id = %(id)s", id=worker)
    assert event["detail"]["outcome"] == "quota"
    (counted,) = fleet.db.rows("select labels, many from tallies where metric = %(m)s", m=launches.SPAWN_FAILURES)
    assert counted == {"labels": {"outcome": "quota", "profile": "echo"}, "many": 1}
    row = fleet.db.row(
        "select coalesce(extract(epoch from backoff_until - now())::float, 0) as left_s from profiles where family = 'echo'"
    )
    assert row
    assert waits_s - 30 <= row["left_s"] <= waits_s
