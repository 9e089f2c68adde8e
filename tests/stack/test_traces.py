"""Traces from real workers at a real collector: a claim and two operations that fold, each in its own trace, and linked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from config.names import CLAIM_TASK, NETWORK_PLUG_TASK, RECONCILE_TASK, RELEASE_TASK, SPAWN_TASK
from config.settings import Settings
from scheduler.store.operations import Operation
from tasks.correlation import HEADER
from tasks.services import Service
from tests.stack.test_operations import lane_taken, until_waiting
from tests.support import profiles
from tests.support.collector import Collector, Span, collecting
from tests.support.deployment import BEATS, COMPANIONS, Deployment, deployed
from tests.support.eventually import eventually
from tests.support.servers import Servers

WITHIN_S = 60.0
DOCUMENT = {
    "profiles": {"echo": profiles.echo(hot_idle_s=1.0)},
    "logs": {"format": "json"},
    "operations": {"lease_s": 3.0, "look_s": 3.0},
    "network": {"nodes": {"node1": {"address": "10.99.0.1", "namespace": "traced1"}}},
}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def traced(servers: Servers, collector: Collector) -> Iterator[Deployment]:
    def placed(wanted: Sequence[Service], _: Settings) -> list[Service]:
        quick = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_RESOURCE_ATTRIBUTES": "service.name=stoker-test"}
        return [dataclasses.replace(service, env={**service.env, **quick}) for service in wanted]

    document = {**DOCUMENT, "traces": {"enabled": True, "endpoint": collector.url}}
    # Without beat, and not before the tick that a worker asks for as it starts is over: a tick of somebody else's may answer
    # a claim's demand before the claim's own does, and does so in another trace.
    with deployed(servers, document, without=(*BEATS, *COMPANIONS), placed=placed) as deployment:
        eventually(lambda: named(collector.spans, f"run {RECONCILE_TASK}"), "the first tick is over", within_s=WITHIN_S)
        yield deployment


def ask(deployment: Deployment, task: str, *arguments: Any, number: int, **options: Any) -> Any:
    """By a client that traces itself: it sends the W3C's header, of a trace with this number."""
    queue = deployment.settings.routes.get(task, "user_waiting")
    headers = {"traceparent": f"00-{number:032x}-{number:016x}-01", HEADER: f"story-{number}"}
    sent = deployment.context.app.send_task(task, args=arguments, kwargs=options, queue=queue, headers=headers)
    return sent.get(timeout=WITHIN_S)


def named(spans: Sequence[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name]


def path(spans: Sequence[Span], span: Span) -> list[str]:
    """The names from this span up to where its trace was begun."""
    by_id = {one.id: one for one in spans}
    names = [span.name]
    while span.parent in by_id:
        span = by_id[span.parent]
        names.append(span.name)
    return names


def test_a_claim_is_one_trace_from_its_client_to_the_worker_that_was_launched_for_it(
    traced: Deployment, collector: Collector
) -> None:
    number = 0xC1A1
    held = ask(traced, CLAIM_TASK, "traced", "echo", number=number, wait_s=30)
    assert held["outcome"] == "held"
    ask(traced, RELEASE_TASK, "traced", held["worker_id"], held["epoch"], number=number)
    trace = f"{number:032x}"
    # Each process sends its own when it gets to it.
    tasks = (CLAIM_TASK, RECONCILE_TASK, SPAWN_TASK, RELEASE_TASK)
    wanted = (
        {f"run {task}" for task in tasks}
        | {f"publish {task}" for task in (RECONCILE_TASK, SPAWN_TASK)}
        | {"claim", "wait spawn"}
    )
    eventually(lambda: all(named(collector.of(trace), name) for name in wanted), "the spans", within_s=WITHIN_S)
    spans = collector.of(trace)
    assert collector.paths == {"/v1/traces"}
    assert {span.service for span in spans} == {"stoker-test"}
    assert {span.story for span in spans} == {f"story-{number}"}
    (run,) = named(spans, f"run {CLAIM_TASK}")
    (claim,) = named(spans, "claim")
    assert run.parent == f"{number:016x}", "the client's own span"
    assert (claim.parent, claim.facts["stoker.outcome"], claim.facts["stoker.tenant"]) == (run.id, "held", "traced")
    (spawn,) = named(spans, f"run {SPAWN_TASK}")
    assert path(spans, spawn) == [
        f"run {SPAWN_TASK}",
        f"publish {SPAWN_TASK}",
        f"run {RECONCILE_TASK}",
        f"publish {RECONCILE_TASK}",
        "claim",
        f"run {CLAIM_TASK}",
    ]
    # How long each message had waited stands beside its run, and what it asked of SQL under it.
    waits = [span for span in spans if span.name.startswith("wait ") and span.parent == spawn.parent]
    assert [(wait.name, wait.end_ns <= spawn.start_ns) for wait in waits] == [("wait spawn", True)]
    assert {span.name for span in spans if span.parent == claim.id} >= {"sql claim_worker", "sql take_ticket"}
    assert all(
        span.facts["db.query.text"] for span in spans if span.name.startswith("sql ") and span.name != "sql transaction"
    )
    # No token, and no value of a statement.
    assert held["token"] not in str(spans)
    lines = traced.settings.locations.logs.joinpath("user.log").read_text().splitlines()
    answered = [json.loads(line) for line in lines if "claim answered" in line]
    assert [line["trace_id"] for line in answered if line["correlation_id"] == f"story-{number}"] == [trace]


def test_a_follower_stays_in_its_own_trace_and_is_linked_to_the_run_that_served_it(
    traced: Deployment, collector: Collector
) -> None:
    made = traced.context.networks.create("blue", "10.1.0.0/24")
    assert traced.context.operations.wait(made.id, WITHIN_S)["state"] == "succeeded"
    numbers = (0xAAAA, 0xBBBB)
    with lane_taken(traced, "blue"):
        answers = [ask(traced, NETWORK_PLUG_TASK, "blue", f"web{n:x}", "node1", number=n) for n in numbers]
        operations = [answer["operation"] for answer in answers]
        rows = traced.db.rows(
            "select id, token, state from operations where id = any(%(ids)s) order by id", ids=operations
        )
        until_waiting(traced, *(Operation(**row, is_new=True, correlation_id=None) for row in rows))
    rows = [traced.context.operations.wait(id_, WITHIN_S) for id_ in operations]
    assert [row["state"] for row in rows] == ["succeeded", "succeeded"]
    traces = [f"{number:032x}" for number in numbers]

    def steps(trace: str) -> list[Span]:
        found = [span for span in collector.of(trace) if span.name.startswith(("run step.", "follow step."))]
        # One that found its lane taken in SQL is told as ignored.
        return [span for span in found if span.facts.get("stoker.state") != "IGNORED"]

    def is_whole(trace: str) -> bool:
        found = steps(trace)
        begun_by = {path(collector.of(trace), step)[-1] for step in found}
        return len(found) == rows[0]["steps"] and begun_by == {f"run {NETWORK_PLUG_TASK}"}

    eventually(lambda: all(is_whole(trace) for trace in traces), "all steps", within_s=WITHIN_S)
    runs = {span.id: span for trace in traces for span in steps(trace) if span.name.startswith("run ")}
    follows = [span for trace in traces for span in steps(trace) if span.name.startswith("follow ")]
    assert len(follows) == sum(entry["how"] == "folded" for row in rows for entry in row["trail"]) > 0
    for follow in follows:
        ((trace, run),) = follow.links
        assert trace != follow.trace
        assert runs[run].trace == trace
        assert runs[run].name.removeprefix("run ") == follow.name.removeprefix("follow ")
        assert runs[run].start_ns == follow.start_ns
    for number, trace in zip(numbers, traces, strict=True):
        spans = collector.of(trace)
        assert {span.story for span in spans} == {f"story-{number}"}
        # Each step follows from the one before it, run or followed, down from the submit.
        for before, after in zip(steps(trace), steps(trace)[1:], strict=False):
            assert before.name in path(spans, after)
        assert path(spans, steps(trace)[-1])[-2:] == ["submit interface.plug", f"run {NETWORK_PLUG_TASK}"]


def test_an_error_is_told_by_its_kind_alone(traced: Deployment, collector: Collector) -> None:
    number = 0xE44
    with pytest.raises(Exception, match="argument"):
        ask(traced, RELEASE_TASK, "hunter2", number=number)
    trace, name = f"{number:032x}", f"run {RELEASE_TASK}"
    (run,) = eventually(lambda: named(collector.of(trace), name), "the span", within_s=WITHIN_S)
    assert run.is_error
    assert "hunter2" not in str(run)
