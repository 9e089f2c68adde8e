"""A start is told where somebody listens, once, with the numbers of its wait; where nobody does, nothing is made of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.app.task import Context
from celery.events import EventDispatcher
from celery.worker import state
from kombu import Connection

from tasks import starts
from tasks.coalescing.request import CoalescingRequest
from tasks.starts import EVENT, Start, StartingRequest, waited_s
from tasks.transport.reading import ENQUEUED_AT

NOW_S = 1_700_000_000.0
STAMP = {ENQUEUED_AT: (NOW_S - 3) * 1000}


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery("starts", broker="memory://", set_as_current=False) as made:

        @made.task(name="plain", shared=False)
        def plain() -> None:
            """Nothing."""

        made.finalize()
        yield made


@pytest.fixture
def connection(app: Celery) -> Iterator[Connection]:
    with app.connection_for_write() as made:
        yield made


@pytest.fixture
def heard(app: Celery, connection: Connection) -> Iterator[list[dict[str, Any]]]:
    """What a receiver is told, so far; kept up to date by `told`."""
    found: list[dict[str, Any]] = []
    receiver = app.events.Receiver(connection.channel(), handlers={EVENT: found.append})
    with receiver.channel.connection.client.Consumer([receiver.queue], callbacks=[receiver._receive], no_ack=True):
        yield found


def told(connection: Connection, heard: list[dict[str, Any]]) -> list[dict[str, Any]]:
    while True:
        try:
            connection.drain_events(timeout=0.01)
        except TimeoutError:
            return heard


def message(app: Celery, **headers: Any) -> Any:
    """As a worker receives one."""
    with app.connection_for_write() as opened:
        queue = opened.SimpleQueue(uuid4().hex)
        body = ((), {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None})
        queue.put(body, headers={"id": uuid4().hex, "task": "plain", **headers}, serializer="json")
        found = queue.get(timeout=1)
        queue.close()
        return found


def request(app: Celery, kind: type[Any], eventer: EventDispatcher | None, **headers: Any) -> Any:
    return kind(message(app, **headers), app=app, eventer=eventer, task=app.tasks["plain"], hostname="w@here")


@pytest.mark.parametrize(
    ("headers", "waited"),
    [
        (STAMP, 3.0),
        ({}, None),
        ({ENQUEUED_AT: None}, None),
        ({ENQUEUED_AT: (NOW_S + 5) * 1000}, 0.0),
        ({**STAMP, "eta": "2023-11-14T22:13:19+00:00"}, 1.0),
        ({**STAMP, "eta": "2023-11-14T22:13:19"}, 1.0),
        ({**STAMP, "eta": "2023-11-14T22:10:00+00:00"}, 3.0),
    ],
    ids=["stamped", "no stamp", "null", "a clock ahead", "due later", "due, in UTC", "due before it was published"],
)
def test_a_wait_is_from_publication_or_from_when_it_was_due(headers: dict[str, Any], waited: float | None) -> None:
    assert waited_s(headers, NOW_S) == waited


@pytest.mark.parametrize("groups", [None, {"task", "worker"}], ids=["-E", "told to"])
def test_a_plain_task_starts_when_the_pool_takes_it(
    app: Celery, connection: Connection, heard: list[dict[str, Any]], groups: set[str] | None
) -> None:
    eventer = app.events.Dispatcher(connection, hostname="w@here", groups=groups)
    one = request(app, StartingRequest, eventer, **{ENQUEUED_AT: (time.time() - 3) * 1000})
    one.on_accepted(os.getpid(), time.monotonic())
    (event,) = told(connection, heard)
    assert 3.0 <= event["wait_s"] < 8.0
    numbers = ("uuid", "name", "queue", "lane_wait_s", "defers", "folded")
    assert [event[name] for name in numbers] == [one.id, "plain", one.delivery_info["routing_key"], 0.0, 0, 0]


@pytest.mark.parametrize(
    "how", [None, {"groups": {"worker"}}, {"enabled": False}], ids=["none", "heartbeats only", "off"]
)
def test_where_nobody_listens_nothing_is_told_and_no_execution_knows_how(
    app: Celery, connection: Connection, heard: list[dict[str, Any]], how: dict[str, Any] | None
) -> None:
    eventer = None if how is None else app.events.Dispatcher(connection, hostname="w@here", **how)
    request(app, StartingRequest, eventer, **STAMP).on_accepted(os.getpid(), time.monotonic())
    folding = request(app, CoalescingRequest, eventer, **STAMP)
    context = Context(id=folding.id, delivery_info=folding.delivery_info, hostname="w@here")
    starts.tell(app, context, Start("plain", "q", 1.0))
    assert told(connection, heard) == []
    assert not any(value == os.getpid() for value in folding.delivery_info.values())


def test_a_released_message_tells_though_the_one_that_parked_is_done_with_only_then(
    app: Celery, connection: Connection, heard: list[dict[str, Any]]
) -> None:
    eventer = app.events.Dispatcher(connection, hostname="w@here")
    id_ = uuid4().hex
    parked, released = (request(app, CoalescingRequest, eventer, id=id_, **STAMP) for _ in range(2))
    for taken in (parked, released):
        state.task_reserved(taken)
        state.task_accepted(taken)
    state.task_ready(parked)
    context = Context(id=id_, delivery_info=released.delivery_info, hostname="w@here")
    starts.tell(app, context, Start("plain", "q", 1.0))
    state.task_ready(released)
    assert [event["uuid"] for event in told(connection, heard)] == [id_]


def test_a_child_of_the_pool_tells_by_a_dispatcher_of_its_own(
    app: Celery, connection: Connection, heard: list[dict[str, Any]]
) -> None:
    folding = request(app, CoalescingRequest, app.events.Dispatcher(connection, hostname="w@here"), **STAMP)
    # What a child is told of the process that took its message.
    forked = {name: -1 if value == os.getpid() else value for name, value in folding.delivery_info.items()}
    context = Context(id=folding.id, delivery_info=forked, hostname="w@here")
    starts.tell(app, context, Start("plain", "q", 1.5, 0.5, 2, 7))
    (event,) = told(connection, heard)
    assert (event["uuid"], event["hostname"]) == (folding.id, "w@here")
    assert [event[name] for name in ("queue", "wait_s", "lane_wait_s", "defers", "folded")] == ["q", 1.5, 0.5, 2, 7]


def test_a_broker_that_is_gone_fails_no_task() -> None:
    with closing(Celery("gone", broker="redis://127.0.0.1:1/0", set_as_current=False)) as app:
        context = Context(id="x", delivery_info={starts._TELLS: -1}, hostname="w@here")
        began = time.monotonic()
        starts.tell(app, context, Start("plain", "q", 1.0))
        assert time.monotonic() - began < 5
