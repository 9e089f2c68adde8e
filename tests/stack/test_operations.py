"""Operations through real Celery workers: many share a run, each ends with its own result, and nothing is lost on the way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import redis

from config.names import ENSURE_MESH_STEP, UPDATE_DNSMASQ_STEP
from scheduler.core.operations import Place, RunState, task_id
from scheduler.errors import Refused
from scheduler.store import operations as store
from scheduler.store.operations import Operation
from tasks.coalescing.coalescer import coalescer_of
from tests.stack.chaos_operations import lost_updates
from tests.support.commands import until_revoked
from tests.support.deployment import Deployment
from tests.support.eventually import eventually

_numbers = itertools.count(1)
WAIT_S = 60.0


@pytest.fixture
def network(deployment: Deployment) -> str:
    """A network of this test's own, on the first node."""
    number = next(_numbers)
    operation = deployment.context.networks.create(f"blue{number}", f"10.{number}.0.0/24")
    assert ended(deployment, operation)["state"] == "succeeded"
    return f"blue{number}"


def ended(deployment: Deployment, operation: Operation) -> dict[str, Any]:
    row = deployment.context.operations.wait(operation.id, WAIT_S)
    assert row["ended_at"] is not None, row
    return row


def first_node(deployment: Deployment) -> str:
    return next(iter(deployment.settings.network.nodes))


def lane(deployment: Deployment, network: str, node: str = "") -> str:
    return f'network/node["{network}","{node or first_node(deployment)}"]'


@contextmanager
def lane_taken(deployment: Deployment, network: str, node: str = "") -> Iterator[None]:
    """A run in the network's lane on a node, by default the first, which Redis has never heard of."""
    db = deployment.db
    holder = f"test-{next(_numbers)}"
    db.rows(
        "insert into runs (task, key, lane, queue, operation_id, task_id, attempt, served, lane_wait_s, lease_until)"
        " values ('test', 'test', %(lane)s, 'test', %(id)s, %(task)s, 1, 1, 0, clock_timestamp() + %(lease)s)",
        lane=lane(deployment, network, node),
        id=0,
        task=holder,
        lease=timedelta(minutes=1),
    )
    run = db.row(
        "select id from runs where lane = %(lane)s and state = 'running'", lane=lane(deployment, network, node)
    )
    assert run is not None
    yield
    store.end_run(db, run["id"], RunState.SUCCEEDED, [], [])
    coalescer_of(deployment.context.app).protocol.done(holder, "")


def runs_of(deployment: Deployment, network: str, task: str) -> list[tuple[int, str]]:
    rows = deployment.db.rows(
        "select served, state from runs where task = %(task)s and lane like '%%\"' || %(network)s || '\",%%' order by id",
        task=task,
        network=network,
    )
    return [(row["served"], row["state"]) for row in rows]


def until_waiting(deployment: Deployment, *operations: Operation) -> None:
    """Their first steps wait for the lane: parked, or following one that is."""
    protocol = coalescer_of(deployment.context.app).protocol
    ids = [task_id(Place(operation.id, 0, operation.token)) for operation in operations]

    def wait() -> bool:
        return all(protocol.known(ids)) and all(protocol.state(id_) in {"parked", None} for id_ in ids)

    eventually(wait, f"{ids} wait for the lane", within_s=WAIT_S)


def test_six_starts_share_what_they_have_in_common_and_each_ends_with_its_own(
    deployment: Deployment, network: str
) -> None:
    nodes = list(deployment.settings.network.nodes)
    before = len(runs_of(deployment, network, UPDATE_DNSMASQ_STEP))
    with lane_taken(deployment, network):
        starts = [deployment.context.networks.plug(network, f"web{n}", nodes[n % len(nodes)]) for n in range(6)]
        until_waiting(deployment, *(operation for operation, _ in starts))
    rows = [ended(deployment, operation) for operation, _ in starts]
    assert {row["state"] for row in rows} == {"succeeded"}
    assert runs_of(deployment, network, UPDATE_DNSMASQ_STEP)[before:] == [(6, "succeeded")]
    assert len({interface["address"] for _, interface in starts}) == 6
    shared = [
        entry for row in rows for entry in row["trail"] if entry["task"] in {UPDATE_DNSMASQ_STEP, ENSURE_MESH_STEP}
    ]
    folded = [entry for entry in shared if entry["how"] == "folded"]
    assert len(folded) >= 5, "at the least, five of six names"
    assert {entry["where"] for entry in folded} <= {"on_submit", "at_worker"}
    assert {entry["into"] for entry in folded} <= {row["id"] for row in rows}
    assert lost_updates(deployment, network) == []


def test_who_needs_and_who_comes_after_is_let_go_by_the_end_of_the_other(deployment: Deployment, network: str) -> None:
    operations = deployment.context.operations
    with lane_taken(deployment, network):
        first = operations.submit("network.refresh", network)
        second = operations.submit("network.refresh", network, needs=[first.id])
        third = operations.submit("network.refresh", network, after=[second.id])
        assert (second.state, third.state) == ("waiting", "waiting")
    rows = [ended(deployment, operation) for operation in (first, second, third)]
    assert [row["state"] for row in rows] == ["succeeded"] * 3
    assert rows[0]["ended_at"] <= rows[1]["began_at"] <= rows[1]["ended_at"] <= rows[2]["began_at"]


def test_of_equal_operations_that_wait_one_is_pending_and_serves_all(deployment: Deployment, network: str) -> None:
    operations = deployment.context.operations
    with lane_taken(deployment, network):
        first = operations.submit("network.refresh", network)
        until_waiting(deployment, first)
        again = [operations.submit("network.refresh", network) for _ in range(5)]
        urgent = operations.submit("network.refresh", network, queue="user_waiting")
    assert {(one.id, one.is_new) for one in again} == {(first.id, False)}
    assert urgent.is_new, "it must not wait in a queue less urgent than its own"
    assert ended(deployment, first)["asked"] == 6
    assert ended(deployment, urgent)["state"] == "succeeded"


def test_a_cancelled_leader_hands_over_and_a_cancelled_follower_leaves(deployment: Deployment, network: str) -> None:
    context = deployment.context
    with lane_taken(deployment, network):
        starts = [context.networks.plug(network, f"db{n}", first_node(deployment))[0] for n in range(4)]
        until_waiting(deployment, *starts)
        assert context.operations.cancel(starts[0].id)
        assert context.operations.cancel(starts[2].id)
        assert not context.operations.cancel(starts[0].id)
    rows = [ended(deployment, operation) for operation in starts]
    assert [row["state"] for row in rows] == ["cancelled", "succeeded", "cancelled", "succeeded"]
    assert [row["step"] for row in rows][::2] == [0, 0]


def test_a_step_revoked_as_flower_does_it_cancels_its_operation_and_no_other(
    deployment: Deployment, network: str
) -> None:
    context = deployment.context
    with lane_taken(deployment, network):
        starts = [context.networks.plug(network, f"rv{n}", first_node(deployment))[0] for n in range(4)]
        until_waiting(deployment, *starts)
        # The leader, and one that follows it.
        revoked = [task_id(Place(start.id, 0, start.token)) for start in (starts[0], starts[2])]
        for id_ in revoked:
            context.app.control.revoke(id_)
        until_revoked(deployment, *revoked)
    rows = [ended(deployment, operation) for operation in starts]
    assert [row["state"] for row in rows] == ["cancelled", "succeeded", "cancelled", "succeeded"]


def test_a_flush_while_operations_wait_makes_them_late_and_not_lost(deployment: Deployment, network: str) -> None:
    context = deployment.context
    with lane_taken(deployment, network):
        starts = [context.networks.plug(network, f"late{n}", first_node(deployment))[0] for n in range(3)]
        until_waiting(deployment, *starts)
        with redis.Redis.from_url(deployment.settings.redis_client_url) as client:
            client.flushdb()
    assert [ended(deployment, operation)["state"] for operation in starts] == ["succeeded"] * 3
    assert lost_updates(deployment, network) == []


def test_a_waiter_whose_listener_is_cut_off_hears_of_the_end_all_the_same(deployment: Deployment, network: str) -> None:
    with lane_taken(deployment, network), ThreadPoolExecutor(1) as caller:
        operation = deployment.context.operations.submit("network.refresh", network)
        waiting = caller.submit(deployment.context.operations.wait, operation.id, WAIT_S)
        cut = "select pg_terminate_backend(pid) as cut from pg_stat_activity where query = 'listen stoker_operations'"
        eventually(lambda: any(row["cut"] for row in deployment.db.rows(cut)), "a listener is cut off", within_s=WAIT_S)
        deployment.context.operations.cancel(operation.id)
        assert waiting.result(timeout=WAIT_S)["state"] == "cancelled"


@pytest.mark.parametrize(
    ("kind", "target", "queue", "said"),
    [
        ("network.refesh", "blue", "user_facing", "did you mean 'network.refresh'"),
        ("network.refresh", "nowhere", "user_facing", "network nowhere"),
        ("network.refresh", "a;b", "user_facing", "a-z, 0-9 and -"),
        ("network.refresh", "x" * 64, "user_facing", "1 to 63"),
        ("network.refresh", "nowhere", "control", "one of user_waiting"),
        ("interface.plug", "{network}/nobody", "user_facing", "stoker network plug"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(
    deployment: Deployment, network: str, kind: str, target: str, queue: str, said: str
) -> None:
    before = deployment.db.row("select count(*) from operations")
    with pytest.raises(Refused, match=said):
        deployment.context.operations.submit(kind, target.format(network=network), queue=queue)
    assert deployment.db.row("select count(*) from operations") == before
