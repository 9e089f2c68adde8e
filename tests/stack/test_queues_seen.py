"""What Celery's own tools show of the queues (I34): Flower's broker page, its tasks and workers, and `celery inspect`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import pytest
import redis
from celery.result import AsyncResult
from celery.utils.nodenames import gethostname

from config.names import CLAIM_TASK, RENEW_TASK
from scheduler.redis.connection import connect
from tests.support import profiles
from tests.support.deployment import BEATS, Deployment, deployed
from tests.support.eventually import eventually
from tests.support.flower import (
    THREADS,
    WITHIN_S,
    Flower,
    flower_of,
    free_port,
    nobody_spawns,
    waiting_claims,
    with_few_threads,
)
from tests.support.servers import Servers

SENT = {"user_waiting": 7, "user_facing": 5, "background": 11, "user_waiting@node1": 3, "background@node1": 2}


@pytest.fixture(scope="module")
def watched(servers: Servers) -> Iterator[Deployment]:
    document = {
        "profiles": {"echo": profiles.echo()},
        "flower": {"port": free_port()},
        "network": {"nodes": {"node1": {"address": "10.99.0.1", "namespace": "seen1"}}},
    }
    with deployed(servers, document, without=BEATS, placed=with_few_threads) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def flower(watched: Deployment) -> Flower:
    return flower_of(watched, workers=("control", "spawn", "user"))


@pytest.fixture
def client(watched: Deployment) -> Iterator[redis.Redis]:
    with closing(connect(watched.settings.redis_client_url)) as opened:
        yield opened


def depths(client: redis.Redis, queues: Sequence[str]) -> dict[str, int]:
    with client.pipeline() as pipe:
        for queue in queues:
            pipe.llen(queue)
        return dict(zip(queues, pipe.execute(), strict=True))


def send(deployment: Deployment, counts: Mapping[str, int]) -> list[AsyncResult[Any]]:
    """So many renewals of a claim that nobody has, in each queue."""
    app = deployment.context.app
    return [
        app.send_task(RENEW_TASK, ["nobody", number, 1, "echo"], queue=queue)
        for queue, count in counts.items()
        for number in range(1, count + 1)
    ]


def inspected(deployment: Deployment) -> dict[str, set[str]]:
    """What `celery inspect active_queues` prints: by worker the queues it serves."""
    # By name, for then it ends with the last answer; else it waits out its time for more of them.
    nodes = ",".join(f"{name}@{gethostname()}" for name in ("control", "spawn", "user"))
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tasks",
            "inspect",
            "active_queues",
            "--json",
            "--timeout=5",
            "-d",
            nodes,
        ],
        env=deployment.environment(),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=True,
    )
    told = json.loads(ended.stdout)
    return {node.partition("@")[0]: {queue["name"] for queue in queues} for node, queues in told.items()}


def test_flower_tells_how_many_wait_in_each_queue_and_what_became_of_them(
    watched: Deployment, flower: Flower, client: redis.Redis
) -> None:
    queues = watched.settings.all_queues
    # Claims fill the threads of those who serve users, and what comes after them waits.
    with nobody_spawns(watched):
        claims = waiting_claims(watched, "echo")
        renewals = send(watched, SENT)

        def told_while_nothing_moves() -> tuple[dict[str, int], dict[str, int], dict[str, int]] | None:
            before = depths(client, queues)
            told = flower.lengths(), flower.broker_page()
            return (before, *told) if depths(client, queues) == before else None

        told = eventually(told_while_nothing_moves, "lengths that stay", within_s=WITHIN_S)
        assert told is not None
        true, by_interface, on_page = told
        assert by_interface == true
        assert on_page == true
        # A full worker holds back nothing, also of what acknowledges early (I35).
        assert {queue: true[queue] for queue in SENT} == SENT
        assert true["spawn"] > 0
    assert [claim.get(timeout=WITHIN_S)["outcome"] for claim in claims] == ["held"] * THREADS
    for renewal in renewals:
        renewal.get(timeout=WITHIN_S)
    sent = {renewal.id for renewal in renewals} | {claim.id for claim in claims}

    def seen() -> dict[str, Any] | None:
        tasks = flower.tasks()
        return tasks if all(tasks.get(each, {}).get("state") == "SUCCESS" for each in sent) else None

    tasks = eventually(seen, "Flower shows that all have succeeded", within_s=WITHIN_S)
    assert tasks is not None
    assert {tasks[claim.id]["name"] for claim in claims} == {CLAIM_TASK}
    assert "tenant0" in tasks[claims[0].id]["args"]
    assert flower.lengths() == dict.fromkeys(sorted(queues), 0)


def test_inspect_lists_the_queues_of_workers_that_have_work(watched: Deployment, flower: Flower) -> None:
    renewals = send(watched, dict.fromkeys(SENT, 40))
    served = inspected(watched)
    assert served["control"] == {"control"}
    assert served["spawn"] == {"spawn", "background"}
    assert served["user"] == {"user_waiting", "user_facing", *watched.settings.node_queues}
    assert {name: set(queues) for name, queues in flower.workers().items()} == served
    page = flower.page("/workers")
    assert all(f"{name}@" in page for name in served)
    for renewal in renewals:
        renewal.get(timeout=WITHIN_S)
