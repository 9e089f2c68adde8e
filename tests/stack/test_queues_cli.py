"""`stoker queues` on a deployment: what it shows, what operators change while it runs, and what is refused."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis
from kombu import Consumer, Message, Queue

from scheduler.redis.connection import connect
from scheduler.redis.queues.keys import POLICY_KEY
from scheduler.store import queues
from tests.support.commands import here, words
from tests.support.deployment import CLI, Deployment
from tests.support.eventually import eventually

EVIL = {
    "unknown queue": (("set", "spwan", "--bound", "1s"), "did you mean 'spawn'?"),
    "unknown queue to reset": (("reset", "backgroud"), "did you mean 'background'?"),
    "unknown queue's history": (("history", "contrl"), "did you mean 'control'?"),
    "a node's queue": (("set", "background@node1", "--bound", "1s"), "did you mean 'background'?"),
    "no number": (("set", "spawn", "--bound", "soon"), "write it like 500ms, 10s or 2min"),
    "no unit": (("set", "spawn", "--bound", "10"), "write it like 500ms, 10s or 2min"),
    "no share": (("set", "spawn", "--reserve", "much"), "write it like 0.2 or 20%"),
    "all of it": (("set", "spawn", "--reserve", "100%"), "reserve out of range"),
    "no bound": (("set", "spawn", "--bound", "0s"), "bound out of range"),
    "too much in all": (
        ("set", "spawn", "--reserve", "0.65"),
        "0.25 (user_facing) + 0.65 (spawn) + 0.1 (background) = 1",
    ),
    "half of it too much": (("set", "spawn", "--bound", "9s", "--reserve", "0.9"), "expected less than 1 in all"),
    "nothing to set": (("set", "spawn"), "nothing to set"),
    "no such command": (("sett", "spawn"), "No such command 'sett'"),
    "no changes so many": (("history", "--limit", "0"), "should be"),
}


@pytest.fixture
def client(deployment: Deployment) -> Iterator[redis.Redis]:
    with closing(connect(deployment.settings.redis_client_url)) as opened:
        yield opened


@pytest.fixture
def as_it_was(deployment: Deployment) -> Iterator[None]:
    yield
    for name in deployment.settings.classes:
        here(deployment, "queues", "reset", name, "--json")


def run(deployment: Deployment, *arguments: str) -> Any:
    ended = here(deployment, "queues", *arguments, "--json")
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return json.loads(ended.stdout)


def test_what_there_is_for_programs_and_for_people(deployment: Deployment) -> None:
    def served() -> dict[str, Any]:
        """A worker has a second to answer who serves what."""
        ended = deployment.cli("queues", "--json")
        assert (ended.returncode, ended.stderr) == (0, "")
        found = {row["queue"]: row for row in json.loads(ended.stdout)["queues"]}
        return found if all(row["workers"] for row in found.values()) else {}

    rows = eventually(served, "all of them answer", within_s=60)
    assert sorted(rows) == sorted(deployment.settings.all_queues)
    assert list(rows)[:2] == ["control", "user_waiting"]
    for name, row in rows.items():
        own = deployment.settings.queues[row["class"]]
        assert (row["bound_s"], row["reserve"], row["changed"]) == (own.bound_s, own.reserve, None)
        assert row["waiting"] >= 0
        worker = "user" if "@" in name else own.worker
        assert [node.partition("@")[0] for node in row["workers"]] == [worker]
    shown = words(here(deployment, "queues"))
    assert "queues, the first served first" in shown
    assert shown.count("@node3") == 3
    eventually(lambda: "nobody" not in words(here(deployment, "queues")), "all of them answer", within_s=60)


def test_whoever_watches_has_a_line_a_second_until_ctrl_c(deployment: Deployment) -> None:
    command = [*CLI, "queues", "--watch", "--json"]
    with subprocess.Popen(command, env=deployment.environment(), stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        lines = [json.loads(watching.stdout.readline()) for _ in range(2)]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0
    for line in lines:
        assert {row["queue"] for row in line["queues"]} == set(deployment.settings.all_queues)
    assert all(row["taken_per_s"] >= 0 for line in lines for row in line["queues"])


@pytest.mark.usefixtures("as_it_was")
def test_a_change_is_in_force_told_and_taken_back(deployment: Deployment, client: redis.Redis) -> None:
    ended = deployment.cli("queues", "set", "background", "--bound", "500ms", "--reserve", "20%", "--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    before, after = {"bound_s": 30.0, "reserve": 0.1}, {"bound_s": 0.5, "reserve": 0.2}
    assert json.loads(ended.stdout) == {
        "queue": "background",
        "changed": True,
        "before": before,
        "after": after,
        "is_overridden": True,
        "published": True,
    }
    assert client.hgetall(POLICY_KEY) == {"background": "500 0.2"}
    assert "background is so already: 500 ms, 20 %" in words(
        here(deployment, "queues", "set", "background", "--bound", "500ms")
    )
    row = next(row for row in run(deployment)["queues"] if row["queue"] == "background@node2")
    assert (row["bound_s"], row["reserve"]) == (0.5, 0.2)
    assert row["changed"]["by"] in words(here(deployment, "queues"))
    assert "background: 500 ms, 20 % -> 30.00 s, 10 %" in words(here(deployment, "queues", "reset", "background"))
    assert client.hgetall(POLICY_KEY) == {}
    told = run(deployment, "history", "background")[-2:]
    assert [(row["kind"], row["before"], row["after"]) for row in told] == [
        ("queue.changed", before, after),
        ("queue.changed", after, before),
    ]
    assert all("@" in row["by"] for row in told)
    assert "500 ms, 20 %" in words(here(deployment, "queues", "history"))
    seen = json.loads(here(deployment, "events", "--kind", "queue.changed", "--json").stdout)
    assert [row["detail"]["after"] for row in seen][-2:] == [after, before]


@pytest.mark.usefixtures("as_it_was")
def test_who_serves_the_queues_follows_a_change_at_its_next_look(deployment: Deployment) -> None:
    better, worse = (Queue(f"{name}@probe", routing_key=f"{name}@probe") for name in ("user_facing", "background"))
    came: list[str] = []

    def take(body: str, message: Message) -> None:
        came.append(body)
        message.ack()

    with deployment.context.app.connection_for_read() as connection:
        producer = connection.Producer()
        producer.publish("worse", routing_key=worse.name)
        consumer = Consumer(connection.channel(), [better, worse], callbacks=[take], prefetch_count=1)
        producer.publish("better", routing_key=better.name)
        with consumer:
            while not came:
                connection.drain_events(timeout=10)
            assert came == ["better"]  # and the question for the next is not yet asked
            ended = here(deployment, "queues", "set", "background", "--bound", "1ms", "--reserve", "40%")
            assert ended.returncode == 0, ended
            producer.publish("better", routing_key=better.name)
            while len(came) < 3:
                connection.drain_events(timeout=10)
    assert came == ["better", "worse", "better"]


@pytest.mark.usefixtures("as_it_was")
def test_after_a_flush_the_sweep_tells_the_workers_again(deployment: Deployment, client: redis.Redis) -> None:
    run(deployment, "set", "spawn", "--bound", "2min")
    client.delete(POLICY_KEY)
    client.hset(POLICY_KEY, "gone", "1 0.9")
    eventually(lambda: client.hgetall(POLICY_KEY) == {"spawn": "120000 0.25"}, "the policy in Redis", within_s=15)


def test_bad_input_changes_nothing_and_says_what_is_right(deployment: Deployment, client: redis.Redis) -> None:
    def facts() -> object:
        return queues.policies(deployment.db), queues.history(deployment.db), client.hgetall(POLICY_KEY)

    before = facts()
    for name, (arguments, said) in EVIL.items():
        ended = here(deployment, "queues", *arguments)
        assert ended.returncode in {1, 2}, (name, ended)
        assert said in words(ended), (name, ended)
    answer = json.loads(here(deployment, "queues", "set", "spwan", "--bound", "1s", "--json").stdout)
    assert answer["kind"] == "Refused"
    assert facts() == before


def test_doctor_knows_the_queues(deployment: Deployment) -> None:
    checks = {check["name"]: check for check in json.loads(deployment.cli("doctor", "--json").stdout)}
    assert "control, user_waiting, user_facing, spawn, background; 60% reserved" in checks["queues"]["found"]
    assert checks["policies of queues"]["ok"], checks["policies of queues"]
