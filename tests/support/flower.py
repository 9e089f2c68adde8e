"""Flower of a deployment, asked as a browser asks it; and a deployment whose few threads a test can keep busy."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import redis
from celery.result import AsyncResult
from celery.utils.nodenames import gethostname

from config.flower_files import FLOWER_USER, password_file
from config.names import CLAIM_TASK, RENEW_TASK
from config.settings import Settings
from scheduler.core.operations import Place, task_id
from scheduler.redis.connection import connect
from scheduler.store import networks
from scheduler.store.operations import Operation
from tasks.coalescing.coalescer import coalescer_of
from tasks.network.fence import Fence
from tasks.services import FLOWER_ADDRESS, Service
from tests.support.deployment import Deployment
from tests.support.eventually import eventually

WITHIN_S = 60.0
THREADS = 2  # of the worker that users wait for
ROW = re.compile(r"<tr id=[^>]*>\s*<td>([^<]*)</td>\s*<td[^>]*>\s*(\d+)\s*</td>")


class Flower:
    """What it says over HTTP, as the user whose password stands in its file."""

    def __init__(self, settings: Settings) -> None:
        self.at = f"http://{FLOWER_ADDRESS}:{settings.flower.port}"
        self.password = password_file(settings.locations).read_text(encoding="ascii").strip()
        self._key = base64.b64encode(f"{FLOWER_USER}:{self.password}".encode()).decode()

    def page(self, path: str, method: str = "GET") -> str:
        headers = {"Authorization": f"Basic {self._key}"}
        request = Request(self.at + path, headers=headers, method=method)  # noqa: S310 - ours
        with urlopen(request, timeout=WITHIN_S) as answer:  # noqa: S310
            text: str = answer.read().decode()
        return text

    def json(self, path: str) -> Any:
        return json.loads(self.page(path))

    def revoke(self, id_: str, *, terminate: bool = False) -> None:
        """As the buttons Revoke and Terminate of a task's page do."""
        self.page(f"/api/task/revoke/{id_}?terminate={str(terminate).lower()}&signal=SIGTERM", "POST")

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

    def task(self, id_: str, state: str) -> dict[str, Any]:
        """The task, once Flower has heard that it is in this state."""

        def heard() -> dict[str, Any] | None:
            found = self.tasks().get(id_)
            return found if found and found["state"] == state else None

        found = eventually(heard, f"Flower shows {id_} as {state}", within_s=WITHIN_S)
        assert found is not None
        return found

    def lengths(self) -> dict[str, int]:
        told = self.json("/api/queues/length")["active_queues"]
        return {queue["name"]: queue["messages"] for queue in told}

    def broker_page(self) -> dict[str, int]:
        return {name: int(length) for name, length in ROW.findall(self.page("/broker"))}


def flower_of(deployment: Deployment, *, workers: Sequence[str]) -> Flower:
    """Flower, once it knows the queues of these workers and hears what they do: it calls for events every 5 s."""
    flower = Flower(deployment.settings)
    app, queues = deployment.context.app, deployment.settings.all_queues

    def knows_all() -> bool:
        known = flower.workers()
        return set(workers) <= known.keys() and all(known.values())

    def hears() -> bool:
        for queue in ("user_waiting", "background"):
            app.send_task(RENEW_TASK, ["nobody", 1, 1, "echo"], queue=queue, ignore_result=True)
        return {"spawn", "user"} <= {str(task.get("worker")).partition("@")[0] for task in flower.tasks().values()}

    eventually(knows_all, "Flower knows every worker", within_s=WITHIN_S)
    eventually(hears, "Flower hears of tasks", within_s=WITHIN_S)
    with closing(connect(deployment.settings.redis_client_url)) as client:
        eventually(lambda: not any(map(client.llen, queues)), "rest", within_s=WITHIN_S)
    return flower


def with_few_threads(services: Sequence[Service], _settings: Settings) -> list[Service]:
    """The worker that users wait for can be full."""

    def few(service: Service) -> Service:
        at = service.argv.index("-c") + 1
        return dataclasses.replace(service, argv=(*service.argv[:at], str(THREADS), *service.argv[at + 1 :]))

    return [few(service) if service.name == "user" else service for service in services]


@contextmanager
def nobody_spawns(deployment: Deployment) -> Iterator[None]:
    """No worker of the pool is started in this block: claims wait, and what launches waits in its queue."""
    spawner = deployment.stack.pids()["spawn"]
    os.kill(spawner, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(spawner, signal.SIGCONT)


def waiting_claims(deployment: Deployment, profile: str) -> list[AsyncResult[Any]]:
    """Claims that have begun to wait, one in each thread of the worker that users wait for."""
    send = deployment.context.app.send_task
    claims = [
        send(CLAIM_TASK, [f"tenant{n}", profile], {"wait_s": WITHIN_S}, queue="user_waiting") for n in range(THREADS)
    ]
    eventually(lambda: all(claim.state == "STARTED" for claim in claims), "claims have begun", within_s=WITHIN_S)
    # One that has begun has not asked yet, and could not be ended.
    asked = "select count(*)::int as n from tickets where profile = %(p)s and worker_id is null"
    eventually(
        lambda: deployment.db.rows(asked, p=deployment.canonical(profile))[0]["n"] >= THREADS,
        "they wait",
        within_s=WITHIN_S,
    )
    return claims


@contextmanager
def steps_held(deployment: Deployment, network: str, node: str) -> Iterator[None]:
    """The next step of this network on this node begins, and does not end in this block."""
    vni = networks.vni(deployment.db, network)
    assert vni is not None
    with Fence(deployment.settings.locations.state_dir.resolve() / "network").held(node, vni):
        yield


def step_of(operation: Operation, position: int = 0) -> str:
    """The Celery id of one of its steps."""
    return task_id(Place(operation.id, position, operation.token))


def until_running(deployment: Deployment, id_: str) -> None:
    """The step with this id leads a run that has begun in SQL."""
    look = "select 1 from runs where task_id = %(id)s and state = 'running'"
    eventually(lambda: deployment.db.rows(look, id=id_), f"{id_} runs", within_s=WITHIN_S)


def followers(deployment: Deployment, id_: str) -> list[str]:
    """Who follows the run of this request."""
    return [follower.id for follower in coalescer_of(deployment.context.app).protocol.followers(id_)]


def depths(client: redis.Redis, queues: Sequence[str]) -> dict[str, int]:
    with client.pipeline() as pipe:
        for queue in queues:
            pipe.llen(queue)
        return dict(zip(queues, pipe.execute(), strict=True))


def renewals_sent(deployment: Deployment, counts: Mapping[str, int]) -> list[AsyncResult[Any]]:
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
    asked = ["inspect", "active_queues", "--json", "--timeout=5", "-d", nodes]
    ended = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "tasks", *asked],
        env=deployment.environment(),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=True,
    )
    told = json.loads(ended.stdout)
    return {node.partition("@")[0]: {queue["name"] for queue in queues} for node, queues in told.items()}
