"""How long each task waited and why: the event stream, SQL and Prometheus tell the same numbers of the same starts."""

from __future__ import annotations

import dataclasses
import itertools
import json
import threading
import urllib.request
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from config.flower_files import FLOWER_USER, password_file
from config.names import OPERATION_QUEUES, OPERATION_SHOW_TASK, OPERATION_WAIT_TASK, UPDATE_DNSMASQ_STEP, node_queue
from config.settings import Settings
from scheduler.core.operations import Place, task_id
from scheduler.store.operations import Operation
from tasks.services import FLOWER_ADDRESS, Service
from tasks.starts import EVENT
from tests.support import profiles
from tests.support.commands import here, words
from tests.support.deployment import BEATS, Deployment, deployed
from tests.support.eventually import eventually
from tests.support.lanes import lane_taken
from tests.support.ports import free_port
from tests.support.servers import Servers

WAIT_S = 60.0
CLOCKS_S = 0.5  # by which each process's estimate of Redis's clock may err, on a machine where answers take that long
# The steps of a node each by a worker of another pool: threads tell by their worker, a forked child by itself.
POOLS = {"threads": "node1", "prefork": "node2"}
NUMBERS = ("queue", "wait_s", "lane_wait_s", "defers", "folded")
Metrics = dict[tuple[str, frozenset[tuple[str, str]]], float]
_networks = itertools.count(1)


def a_worker_of_each_pool(services: Sequence[Service], _settings: Settings) -> list[Service]:
    (user,) = (service for service in services if service.name == "user")
    queues = user.argv[user.argv.index("-Q") + 1].split(",")
    apart = [queue for queue in queues if queue.endswith(POOLS["prefork"])]

    def serving(name: str, pool: str, slots: int, queues: Sequence[str]) -> Service:
        argv, node = list(user.argv), f"{name}@%h"
        for option, value in (("-Q", ",".join(queues)), ("-n", node), ("--pool", pool), ("-c", str(slots))):
            argv[argv.index(option) + 1] = value
        return dataclasses.replace(user, name=name, argv=tuple(argv), node=node)

    both = [
        serving("user", "threads", 8, [q for q in queues if q not in apart]),
        serving("forked", "prefork", 2, apart),
    ]
    return both + [service for service in services if service.name in {"flower", "exporter"}]


@dataclasses.dataclass
class Told:
    """All that is told of starts, by each of those who tell."""

    deployment: Deployment
    heard: list[dict[str, Any]]

    def events(self, *ids: str) -> list[dict[str, Any]]:
        return [event for event in self.heard if event["uuid"] in ids]

    def until_each_has_told(self, ids: Sequence[str]) -> None:
        """One event of each, and no more; fails with the ids of which there was none."""

        def heard() -> Counter[str]:
            return Counter(event["uuid"] for event in self.events(*ids))

        try:
            eventually(lambda: heard() == Counter(ids), "an event each", within_s=WAIT_S)
        except pytest.fail.Exception:
            missing = [*(Counter(ids) - heard()).elements()]
            pytest.fail(f"not within {WAIT_S:g} s: an event each of {ids}; none of {missing}; heard {dict(heard())}")

    def metrics(self) -> Metrics:
        exporter = self.deployment.settings.exporter
        with urllib.request.urlopen(f"http://{exporter.address}:{exporter.port}/metrics", timeout=WAIT_S) as answer:
            text = answer.read().decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def flower(self, path: str) -> str:
        settings = self.deployment.settings
        password = password_file(settings.locations).read_text(encoding="ascii").strip()
        request = urllib.request.Request(f"http://{FLOWER_ADDRESS}:{settings.flower.port}{path}")
        request.add_header("Authorization", "Basic " + b64encode(f"{FLOWER_USER}:{password}".encode()).decode())
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:  # noqa: S310 - our own
            return str(answer.read().decode())

    def show(self, queue: str) -> str:
        """A plain task that has run; its id."""
        result = self.deployment.context.app.send_task(OPERATION_SHOW_TASK, (1,), queue=queue)
        result.get(timeout=WAIT_S)
        return str(result.id)

    def metrics_by_now(self, queue: str) -> Metrics:
        """With all that has started on this queue: events come in their order, so who has the last of them has all."""
        key = "stoker_task_starts_total", frozenset({"task": OPERATION_WAIT_TASK, "queue": queue}.items())
        before = self.metrics().get(key, 0.0)
        self.deployment.context.app.send_task(OPERATION_WAIT_TASK, (1, 0), queue=queue).get(timeout=WAIT_S)
        eventually(lambda: self.metrics().get(key, 0.0) > before, "the last start is counted", within_s=WAIT_S)
        return self.metrics()

    def until_all_hear(self, queue: str) -> None:
        """Whoever serves this queue tells, and everybody listens: what was sent before proves nothing."""
        labels = frozenset({"task": OPERATION_SHOW_TASK, "queue": queue}.items())

        def once_more() -> bool:
            id_ = self.show(queue)
            counted = self.metrics().get(("stoker_task_starts_total", labels))
            return bool(counted and self.events(id_) and id_ in json.loads(self.flower("/api/tasks?limit=1000")))

        eventually(once_more, f"starts of {queue} are told", within_s=WAIT_S)


@pytest.fixture(scope="module")
def told(servers: Servers) -> Iterator[Told]:
    document = {
        "profiles": {"echo": profiles.echo()},
        "flower": {"port": free_port(FLOWER_ADDRESS)},
        "exporter": {"port": free_port(FLOWER_ADDRESS)},
        "network": {"nodes": {f"node{n}": {"address": f"10.99.0.{n}", "namespace": f"told{n}"} for n in (1, 2)}},
    }
    without = ("control", "spawn", *BEATS)
    with (
        deployed(servers, document, without=without, placed=a_worker_of_each_pool) as deployment,
        listening(deployment) as heard,
    ):
        made = Told(deployment, heard)
        for node in POOLS.values():
            made.until_all_hear(node_queue(OPERATION_QUEUES[0], node))
        yield made


@contextmanager
def listening(deployment: Deployment) -> Iterator[list[dict[str, Any]]]:
    """A Celery receiver of the test's own."""
    heard: list[dict[str, Any]] = []
    app = deployment.context.app
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={EVENT: heard.append})
        thread = threading.Thread(target=lambda: receiver.capture(limit=None, timeout=None, wakeup=False), daemon=True)
        thread.start()
        try:
            yield heard
        finally:
            receiver.should_stop = True
            thread.join(timeout=10)


def ended(told: Told, operation: Operation) -> dict[str, Any]:
    row = told.deployment.context.operations.wait(operation.id, WAIT_S)
    assert row["state"] == "succeeded", row
    return told.deployment.context.operations.show_with_runs(operation.id)


def since(before: Metrics, after: Metrics, name: str, *, queue: str, **labels: str) -> float:
    key = (name, frozenset({"queue": queue, **labels}.items()))
    return after.get(key, 0.0) - before.get(key, 0.0)


@pytest.mark.parametrize("pool", POOLS)
def test_events_rows_and_a_scrape_tell_the_same_of_operations_that_fold_and_park(told: Told, pool: str) -> None:
    context, node = told.deployment.context, POOLS[pool]
    network = f"net{next(_networks)}"
    ended(told, context.networks.create(network, f"10.{next(_networks)}.0.0/24", node=node))
    ended(told, context.networks.plug(network, "first", node)[0])
    before = told.metrics_by_now(node_queue("user_waiting", node))
    with lane_taken(told.deployment, network, node) as until_parked:
        plugs = [
            context.networks.plug(network, f"web{n}", node, queue=queue)[0]
            for n, queue in enumerate(("background", "user_facing", "user_waiting"))
        ]
        until_parked(1)
        firsts = [task_id(Place(plug.id, 0, plug.token)) for plug in plugs]
        assert told.events(*firsts) == [], "what parks or folds has started nothing"
    rows = [ended(told, plug) for plug in plugs]

    runs = told.deployment.db.rows(
        "select * from runs where operation_id = any(%(ids)s) order by id", ids=[plug.id for plug in plugs]
    )
    ids = [run["task_id"] for run in runs]
    told.until_each_has_told(ids)
    # SQL and the events: each start once, with the same numbers.
    events = {event["uuid"]: event for event in told.events(*ids)}
    for run in runs:
        assert [events[run["task_id"]][name] for name in NUMBERS] == [run[name] for name in NUMBERS], run
        assert events[run["task_id"]]["name"] == run["task"]
    # The histories of the operations: whoever led a run has its numbers, and whoever folded into it.
    trail = {entry["run"]: entry for row in rows for entry in row["trail"] if "run" in entry}
    for run in runs:
        assert [trail[run["id"]][name] for name in NUMBERS] == [run[name] for name in NUMBERS]
    # They did wait, and for what.
    shared = runs[0]
    assert (shared["task"], shared["folded"], shared["served"]) == (UPDATE_DNSMASQ_STEP, 2, 3)
    assert shared["defers"] >= 1
    assert shared["wait_s"] + CLOCKS_S >= shared["lane_wait_s"] > 0
    assert shared["queue"] == f"user_waiting@{node}", "it was lifted to the most urgent of those it serves"

    # Prometheus: of this node's queues, since before.
    def scraped() -> Metrics | None:
        now = told.metrics()
        count = sum(
            since(before, now, "stoker_task_starts_total", task=run["task"], queue=run["queue"]) for run in distinct
        )
        # A start is counted before its folds and waits are, which may be when this is asked.
        return told.metrics() if count >= len(runs) else None

    distinct = list({(run["task"], run["queue"]): run for run in runs}.values())
    after = eventually(scraped, "all starts are counted", within_s=WAIT_S)
    assert after is not None
    for one in distinct:
        labels = {"task": one["task"], "queue": one["queue"]}
        alike = [run for run in runs if (run["task"], run["queue"]) == (one["task"], one["queue"])]
        assert since(before, after, "stoker_task_starts_total", **labels) == len(alike)
        assert since(before, after, "stoker_task_folds_total", **labels) == sum(run["folded"] for run in alike)
        assert since(before, after, "stoker_task_defers_total", **labels) == sum(run["defers"] for run in alike)
    for queue in {run["queue"] for run in runs}:
        alike = [run for run in runs if run["queue"] == queue]
        waited = since(before, after, "stoker_queue_wait_seconds_sum", queue=queue)
        assert waited == pytest.approx(sum(run["wait_s"] for run in alike))
        lane_waited = since(before, after, "stoker_task_lane_wait_seconds_sum", queue=queue)
        assert lane_waited == pytest.approx(sum(run["lane_wait_s"] for run in alike))
        count = since(before, after, "stoker_task_lane_wait_seconds_count", queue=queue)
        assert count == sum(run["defers"] > 0 for run in alike)


@pytest.mark.parametrize("pool", POOLS)
def test_a_plain_task_tells_once_of_its_start(told: Told, pool: str) -> None:
    queue = node_queue("background", POOLS[pool])
    before = told.metrics_by_now(queue)
    ids = [told.show(queue) for _ in range(5)]
    told.until_each_has_told(ids)
    for event in told.events(*ids):
        assert (event["name"], event["queue"], event["lane_wait_s"]) == (OPERATION_SHOW_TASK, queue, 0.0)
        assert (event["defers"], event["folded"]) == (0, 0)
        assert 0 <= event["wait_s"] < WAIT_S

    def counted() -> bool:
        labels = {"task": OPERATION_SHOW_TASK, "queue": queue}
        return since(before, told.metrics(), "stoker_task_starts_total", **labels) == len(ids)

    eventually(counted, "each is counted", within_s=WAIT_S)


@pytest.mark.parametrize("pool", POOLS)
def test_flower_shows_that_they_succeeded_and_counts_their_events(told: Told, pool: str) -> None:
    context, node = told.deployment.context, POOLS[pool]
    made = context.networks.create(f"net{next(_networks)}", f"10.{next(_networks)}.0.0/24", node=node)
    (run, *_) = [entry for entry in ended(told, made)["trail"] if entry.get("how") == "ran"]
    step = task_id(Place(made.id, run["step"], made.token))
    plain = told.show(node_queue("user_facing", node))

    def states() -> bool:
        tasks = json.loads(told.flower("/api/tasks?limit=1000"))
        return all(tasks.get(id_, {}).get("state") == "SUCCESS" for id_ in (step, plain))

    eventually(states, "Flower shows success", within_s=WAIT_S)
    counts = {
        sample.labels["task"]: sample.value
        for family in text_string_to_metric_families(told.flower("/metrics"))
        for sample in family.samples
        if sample.name == "flower_events_total" and sample.labels["type"] == EVENT
    }
    assert counts[OPERATION_SHOW_TASK] >= 1
    assert counts[run["task"]] >= 1


def test_the_timeline_draws_the_waits_and_its_json_has_the_numbers(told: Told) -> None:
    context = told.deployment.context
    network = f"net{next(_networks)}"
    ended(told, context.networks.create(network, f"10.{next(_networks)}.0.0/24", node="node1"))
    with lane_taken(told.deployment, network, "node1") as until_parked:
        plugs = [context.networks.plug(network, "db0", "node1")[0]]
        until_parked(1)
        # The first has parked, and is open: one that came before would run by itself, and the first fold into it.
        plugs.append(context.networks.plug(network, "db1", "node1")[0])
    rows = [ended(told, plug) for plug in plugs]
    text = words(here(told.deployment, "op", "show", str(rows[0]["id"])))
    for word in ("queued", "parked", "started", "ran", "ended", "ran for 2"):
        assert word in text, text
    assert f"folded into {rows[0]['id']}" in words(here(told.deployment, "op", "show", str(rows[1]["id"])))
    shown = json.loads(here(told.deployment, "op", "show", str(rows[0]["id"]), "--json").stdout)
    first = shown["trail"][0]
    assert first["folded"] == 1
    assert first["defers"] >= 1
    assert first["wait_s"] + CLOCKS_S >= first["lane_wait_s"] > 0
