"""What Celery's own tools show of the queues (I34): Flower's broker page, its tasks and workers, and `celery inspect`."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
import redis
from celery.result import AsyncResult
from celery.utils.nodenames import gethostname

from config.flower_files import FLOWER_USER, password_file
from config.names import CLAIM_TASK, RENEW_TASK
from config.settings import Settings
from scheduler.redis.connection import connect
from tasks.services import FLOWER_ADDRESS, Service
from tests.support import profiles
from tests.support.deployment import Deployment, deployed
from tests.support.eventually import eventually
from tests.support.servers import Servers

WITHIN_S = 60.0
THREADS = 2
SENT = {"user_waiting": 7, "user_facing": 5, "background": 11, "user_waiting@node1": 3, "background@node1": 2}
ROW = re.compile(r"<tr id=[^>]*>\s*<td>([^<]*)</td>\s*<td[^>]*>\s*(\d+)\s*</td>")


class Flower:
    """Flower of a deployment, asked as a browser asks it."""

    def __init__(self, settings: Settings) -> None:
        self._at = f"http://{FLOWER_ADDRESS}:{settings.flower.port}"
        password = password_file(settings.locations).read_text(encoding="ascii").strip()
        self._key = base64.b64encode(f"{FLOWER_USER}:{password}".encode()).decode()

    def page(self, path: str) -> str:
        request = Request(self._at + path, headers={"Authorization": f"Basic {self._key}"})  # noqa: S310 - ours
        with urlopen(request, timeout=WITHIN_S) as answer:  # noqa: S310
            text: str = answer.read().decode()
        return text

    def json(self, path: str) -> Any:
        return json.loads(self.page(path))

    def workers(self) -> dict[str, list[str]]:
        """By the worker's name its queues; empty as long as nobody answers."""
        with suppress(URLError):
            known: dict[str, Any] = self.json("/api/workers?refresh=1")
            return {
                node.partition("@")[0]: [queue["name"] for queue in facts.get("active_queues", ())]
                for node, facts in known.items()
            }
        return {}

    def tasks(self) -> dict[str, dict[str, Any]]:
        told: dict[str, dict[str, Any]] = self.json("/api/tasks?limit=1000")
        return told

    def lengths(self) -> dict[str, int]:
        told = self.json("/api/queues/length")["active_queues"]
        return {queue["name"]: queue["messages"] for queue in told}

    def broker_page(self) -> dict[str, int]:
        return {name: int(length) for name, length in ROW.findall(self.page("/broker"))}


def with_few_threads(services: Sequence[Service], _settings: Settings) -> list[Service]:
    """The worker that users wait for can be full."""

    def few(service: Service) -> Service:
        at = service.argv.index("-c") + 1
        return dataclasses.replace(service, argv=(*service.argv[:at], str(THREADS), *service.argv[at + 1 :]))

    return [few(service) if service.name == "user" else service for service in services]


def free_port() -> int:
    with closing(socket.create_server((FLOWER_ADDRESS, 0))) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def watched(servers: Servers) -> Iterator[Deployment]:
    document = {
        "profiles": {"echo": profiles.echo()},
        "flower": {"port": free_port()},
        "network": {"nodes": {"node1": {"address": "10.99.0.1", "namespace": "seen1"}}},
    }
    with deployed(servers, document, without=("beat",), placed=with_few_threads) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def flower(watched: Deployment) -> Flower:
    """Flower, which knows the queues of all workers, and hears what they do."""
    asked = Flower(watched.settings)

    def knows_all() -> bool:
        workers = asked.workers()
        return {"control", "spawn", "user"} <= workers.keys() and all(workers.values())

    def hears() -> bool:
        for queue in ("user_waiting", "background"):  # it calls for events every 5 s, and knows of no task before
            watched.context.app.send_task(RENEW_TASK, ["nobody", 1, 1, "echo"], queue=queue, ignore_result=True)
        return {"spawn", "user"} <= {str(task.get("worker")).partition("@")[0] for task in asked.tasks().values()}

    eventually(knows_all, "Flower knows every worker", within_s=WITHIN_S)
    eventually(hears, "Flower hears of tasks", within_s=WITHIN_S)
    with closing(connect(watched.settings.redis_client_url)) as client:
        eventually(lambda: not any(depths(client, watched.settings.all_queues).values()), "rest", within_s=WITHIN_S)
    return asked


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
    app, queues = watched.context.app, watched.settings.all_queues
    spawner = watched.stack.pids()["spawn"]
    # Nobody starts a worker, so claims fill the threads of those who serve users, and what comes after them waits.
    os.kill(spawner, signal.SIGSTOP)
    try:
        claims = [
            app.send_task(CLAIM_TASK, [f"tenant{n}", "echo"], {"wait_s": WITHIN_S}, queue="user_waiting")
            for n in range(THREADS)
        ]
        eventually(lambda: all(claim.state == "STARTED" for claim in claims), "claims wait", within_s=WITHIN_S)
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
    finally:
        os.kill(spawner, signal.SIGCONT)
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
