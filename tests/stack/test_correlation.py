"""One id finds the whole story of a claim, of an operation and of one that folds, in logs and events, and nothing else."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import pytest

from config.names import CLAIM_TASK, RECONCILE_TASK, RELEASE_TASK, SPAWN_TASK
from scheduler.errors import Refused
from scheduler.store import history
from tasks import correlation
from tasks.correlation import HEADER
from tests.stack.test_operations import ended, lane_taken, network, until_waiting
from tests.support.commands import here
from tests.support.deployment import Deployment
from tests.support.eventually import eventually

__all__ = ["network"]
ANSWER_S = 60.0


def lines(deployment: Deployment, id_: str) -> list[dict[str, Any]]:
    """What the services' logs hold of that story."""
    logs = [path.read_text().splitlines() for path in deployment.settings.locations.logs.glob("*.log")]
    return [json.loads(line) for line in chain.from_iterable(logs) if f'"{id_}"' in line]


def kinds(deployment: Deployment, id_: str) -> list[str]:
    """What happened in that story, in order, as the command line tells it."""
    said = here(deployment, "events", "--correlation", id_, "--json")
    rows = json.loads(said.stdout)
    assert {row["correlation_id"] for row in rows} == {id_}
    return [row["kind"] for row in rows]


def ask(deployment: Deployment, task: str, *arguments: Any, id_: str = "", **options: Any) -> Any:
    sent = deployment.context.app.send_task(
        task,
        args=arguments,
        kwargs=options,
        queue=deployment.settings.routes[task],
        headers={HEADER: id_} if id_ else None,
    )
    return sent.id, sent.get(timeout=ANSWER_S)


def test_a_claim_that_waits_is_found_with_the_worker_that_was_launched_for_it(deployment: Deployment) -> None:
    id_ = "ticket-4711/a"
    _, held = ask(deployment, CLAIM_TASK, "told", "fast", id_=id_, wait_s=60)
    assert (held["outcome"], held["correlation_id"]) == ("held", id_)
    # Another's claim, which begins its own story at the same time.
    _, other = ask(deployment, CLAIM_TASK, "untold", "fast", id_="another", wait_s=60)
    ask(deployment, RELEASE_TASK, "told", held["worker_id"], held["epoch"])
    ask(deployment, RELEASE_TASK, "untold", other["worker_id"], other["epoch"])
    eventually(lambda: kinds(deployment, id_)[-1] == "worker.retired", "the end of its worker", within_s=ANSWER_S)
    assert kinds(deployment, id_) == [
        "worker.launched",
        "worker.idle",
        "claim.begun",
        *sorted(["claim.ended", "worker.hot_idle"], key=kinds(deployment, id_).index),
        "worker.draining",
        "worker.retired",
    ]
    written = lines(deployment, id_)
    assert {line["correlation_id"] for line in written} == {id_}
    # Who stops it may find that it is gone: whoever watches it may have seen first that it drains.
    assert {line.get("task") for line in written} >= {CLAIM_TASK, RECONCILE_TASK, SPAWN_TASK, RELEASE_TASK}
    assert {line["worker"] for line in written if "worker" in line} == {held["worker_id"]}
    assert {line["tenant"] for line in written if "tenant" in line} == {"told"}


def test_a_claim_of_a_client_that_gives_no_id_is_found_by_the_id_of_its_task(deployment: Deployment) -> None:
    deployment.until_idle("desk", 1)
    task_id, held = ask(deployment, CLAIM_TASK, "plain", "desk", wait_s=60)
    ask(deployment, RELEASE_TASK, "plain", held["worker_id"], held["epoch"])
    assert held["correlation_id"] == task_id
    assert kinds(deployment, task_id)[0] == "claim.begun"


def test_an_operation_that_folds_keeps_its_own_story_and_its_leader_says_whom_it_served(
    deployment: Deployment, network: str
) -> None:
    context = deployment.context
    ids = {"first-of-two": 0, "second-of-two": 0}
    with lane_taken(deployment, network):
        made = []
        for name, id_ in zip(("web1", "web2"), ids, strict=True):
            with correlation.within(id_):
                operation, _ = context.networks.plug(network, name, "node2")
            assert operation.correlation_id == id_
            ids[id_] = operation.id
            made.append(operation)
        until_waiting(deployment, *made)
    rows = {operation.id: ended(deployment, operation) for operation in made}
    folded = [entry for row in rows.values() for entry in row["trail"] if entry["how"] == "folded"]
    assert folded, "nothing was shared, and nothing is shown"
    for id_, operation in ids.items():
        row = rows[operation]
        assert row["correlation_id"] == id_
        steps = ["step.succeeded"] * row["steps"]
        assert kinds(deployment, id_) == ["operation.submitted", *steps, "operation.succeeded"]
        served = [entry.get("serves", []) for entry in row["trail"] if entry["how"] == "ran"]
        other = next(iter(set(ids.values()) - {operation}))
        told = [line for line in lines(deployment, id_) if line["event"] == "runs for others too"]
        own = [line for line in told if line["correlation_id"] == id_]
        # In its own story whom it ran for; in the other's lines whose runs it was served by.
        assert [line["serves"] for line in own] == [some for some in served if some] == [[other]] * len(own)
        assert len(told) - len(own) == sum(entry["how"] == "folded" for entry in row["trail"])
        # Each step that a worker had in its hands was in its operation's story, whoever published it.
        tasks = {line["task_id"].partition(".")[0] for line in lines(deployment, id_) if line["correlation_id"] == id_}
        assert tasks == {f"op{operation}"}


def test_an_equal_operation_is_told_whose_story_it_became_a_part_of(deployment: Deployment, network: str) -> None:
    operations = deployment.context.operations
    with lane_taken(deployment, network):
        first = operations.submit("network.refresh", network, correlation_id="mine")
        second = operations.submit("network.refresh", network, correlation_id="yours")
    assert (second.id, second.is_new, second.correlation_id) == (first.id, False, "mine")
    ended(deployment, first)
    assert history.events(deployment.db, correlation_id="yours") == []
    shown = here(deployment, "op", "show", str(first.id)).stdout
    assert "correlation mine" in " ".join(shown.split())


def test_what_is_no_correlation_id_is_refused_before_anything_is_written(deployment: Deployment, network: str) -> None:
    with pytest.raises(Refused, match="1 to 64 printable ASCII"):
        deployment.context.operations.submit("network.refresh", network, correlation_id="two words")
    refused = here(deployment, "pool", "claim", "acme", "desk", "--correlation", "a" * 65)
    assert refused.returncode == 1
    # In a message it is dropped, as if there were none: who published it is not there to be told.
    task_id, held = ask(deployment, CLAIM_TASK, "dropped", "desk", id_="a" * 65, wait_s=60)
    assert held["correlation_id"] == task_id
    ask(deployment, RELEASE_TASK, "dropped", held["worker_id"], held["epoch"])
