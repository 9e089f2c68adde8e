"""Messages that somebody put into a queue by hand: none of them runs, stops a worker, takes a neighbour along or comes back."""

from __future__ import annotations

import base64
import json
import os
import pickle
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from config.names import RENEW_TASK, USER_FACING_QUEUE
from scheduler.redis.connection import connect
from scheduler.redis.queues.keys import COUNTS_KEY, REFUSED_KEY, TAKEN, counter
from tests.support import profiles
from tests.support.deployment import BEATS, COMPANIONS, Deployment, deployed
from tests.support.eventually import eventually
from tests.support.servers import Servers

WITHIN_S = 20.0
DEEP = 100_000
JSON, PICKLE, YAML = "application/json", "application/x-python-serialize", "application/x-yaml"


class Touch:
    """Whoever unpickles it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mknod, (str(self.path),)


def envelope(
    body: bytes | str = b'[["nobody", 1, 1, "echo"], {}, {}]', kind: str = JSON, **changes: Any
) -> dict[str, Any]:
    """A message as kombu writes one; `headers` and `properties` are laid over those that a good one has."""
    text = body if isinstance(body, str) else base64.b64encode(body).decode()
    made: dict[str, Any] = {
        "body": text,
        "content-encoding": "utf-8",
        "content-type": kind,
        "headers": {"lang": "py", "task": RENEW_TASK, "id": str(uuid.uuid4()), "ignore_result": True, "retries": 0},
        "properties": {
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": USER_FACING_QUEUE},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }
    for key, value in changes.items():
        made[key] = {**made[key], **value} if isinstance(value, dict) and isinstance(made.get(key), dict) else value
    return made


def without(*path: str) -> dict[str, Any]:
    made = envelope()
    inner = made
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    return made


def nested(depth: int, text: str = "") -> str:
    return "[" * depth + text + "]" * depth


def in_text(message: dict[str, Any], old: str, new: str) -> str:
    text = json.dumps(message)
    assert old in text
    return text.replace(old, new, 1)


MESSAGES: dict[str, Callable[[], Any]] = {
    "no JSON": lambda: "hello",
    "nothing": lambda: "",
    "half of one": lambda: json.dumps(envelope())[:-9],
    "a tag and no JSON": lambda: 'x "delivery_tag": "tag"',
    "bytes": lambda: b'\xff\xfe\x00 "delivery_tag": "\xff"',
    "no text": lambda: json.dumps(envelope()).encode().replace(b'"echo', b'"\xff'),
    "a list": lambda: ["delivery_tag", {"delivery_tag": "x"}],
    "null": lambda: "null",
    "deep": lambda: in_text(envelope(x="HERE"), '"HERE"', nested(DEEP)),
    "deep headers": lambda: in_text(envelope(headers={"x": "HERE"}), '"HERE"', nested(DEEP)),
    "deep arguments": lambda: envelope(f'[["nobody", 1, 1, {nested(DEEP)}], {{}}, {{}}]'.encode()),
    "rather deep arguments": lambda: envelope(f'[["nobody", 1, 1, {nested(400)}], {{}}, {{}}]'.encode()),
    "no body": lambda: without("body"),
    "no headers": lambda: without("headers"),
    "no properties": lambda: without("properties"),
    "no tag": lambda: without("properties", "delivery_tag"),
    "no delivery info": lambda: without("properties", "delivery_info"),
    "no content type": lambda: without("content-type"),
    "no content encoding": lambda: without("content-encoding"),
    "no body encoding": lambda: without("properties", "body_encoding"),
    "no task": lambda: without("headers", "task"),
    "no id": lambda: without("headers", "id"),
    "headers of another kind": lambda: envelope(headers=["task", RENEW_TASK]),
    "properties of another kind": lambda: {**envelope(), "properties": [{"delivery_tag": "x"}]},
    "a body of another kind": lambda: {**envelope(), "body": {"x": 1}},
    "a body that is no base64": lambda: envelope("%%%"),
    "a task of another kind": lambda: envelope(headers={"task": {"x": 1}}),
    "no such task": lambda: envelope(headers={"task": "os.system"}),
    "an id of another kind": lambda: envelope(headers={"id": [1]}),
    "a long id": lambda: envelope(headers={"id": "x" * 1_000_000}),
    "a tag of another kind": lambda: envelope(properties={"delivery_tag": {"delivery_tag": "x"}}),
    "two tags": lambda: in_text(envelope(), '"delivery_tag"', '"delivery_tag": "x", "delivery_tag"'),
    "an encoding that there is not": lambda: envelope(properties={"body_encoding": "rot13"}),
    "a content encoding that there is not": lambda: envelope(**{"content-encoding": "klingon"}),
    "a compression that there is not": lambda: envelope(headers={"compression": "application/x-nothing"}),
    "a compression that it has not": lambda: envelope(headers={"compression": "application/x-gzip"}),
    "a content type that there is not": lambda: envelope(kind="text/klingon"),
    "a time of another kind": lambda: envelope(headers={"eta": "yesterday"}),
    "an end of another kind": lambda: envelope(headers={"expires": {"x": 1}}),
    "retries of another kind": lambda: envelope(headers={"retries": "many"}),
    "limits of another kind": lambda: envelope(headers={"timelimit": "for ever"}),
    "a stamp of another kind": lambda: {"stoker-at": "noon", **envelope()},
    "a stamp of long ago": lambda: {"stoker-at": -1, **envelope()},
    "a stamp of long hence": lambda: {"stoker-at": 10**400, **envelope()},
    "a deep stamp": lambda: {"stoker-at": [[[[]]]], **envelope()},
    "arguments of another kind": lambda: envelope(b'["nobody", 1, {}]'),
    "no arguments": lambda: envelope(b"{}"),
    "too many arguments": lambda: envelope(b'[["a", 1, 2, "echo", 5, 6], {}, {}]'),
    "arguments that it has not": lambda: envelope(b'[[], {"x": 1}, {}]'),
    "callbacks of another kind": lambda: envelope(b'[["nobody", 1, 1, "echo"], {}, {"callbacks": [1], "chain": "x"}]'),
    "eight megabytes": lambda: envelope(json.dumps([["x" * 8_000_000, 1, 1, "echo"], {}, {}]).encode()),
}


@pytest.fixture(scope="module")
def deployment(servers: Servers) -> Iterator[Deployment]:
    """One of the file's own: what a message did to it should trouble no other."""
    with deployed(servers, {"profiles": {"desk": profiles.echo()}}, without=(*BEATS, *COMPANIONS)) as running:
        yield running


@pytest.fixture
def broker(deployment: Deployment) -> Iterator[redis.Redis]:
    with closing(connect(deployment.settings.redis_client_url)) as client:
        yield client


def text_of(message: Any) -> str | bytes:
    return message if isinstance(message, str | bytes) else json.dumps(message)


def passes_between_neighbours(deployment: Deployment, broker: redis.Redis, message: Any) -> None:
    """Put it between two good ones: both run, and of it nothing is left, in the same worker process."""
    queue, app, pids = USER_FACING_QUEUE, deployment.context.app, deployment.stack.pids()
    before = int(broker.hget(COUNTS_KEY, counter(queue, TAKEN)) or 0)

    def neighbour() -> Any:
        return app.send_task(RENEW_TASK, ["nobody", 1, 1, "desk"], queue=queue)

    first = neighbour()
    broker.lpush(queue, text_of(message))
    last = neighbour()
    assert [first.get(timeout=WITHIN_S), last.get(timeout=WITHIN_S)] == [False, False]
    eventually(lambda: not broker.exists(queue, "unacked"), "nothing waits and nothing is held", within_s=WITHIN_S)
    taken = int(broker.hget(COUNTS_KEY, counter(queue, TAKEN)) or 0) - before
    assert taken == 3, "it came back"
    assert deployment.stack.pids() == pids


@pytest.mark.parametrize("make", MESSAGES.values(), ids=MESSAGES)
def test_a_poisoned_message_takes_nothing_along(
    deployment: Deployment, broker: redis.Redis, make: Callable[[], Any]
) -> None:
    passes_between_neighbours(deployment, broker, make())
    assert int(broker.llen(REFUSED_KEY)) <= 1_000


@pytest.mark.parametrize("kind", [PICKLE, "pickle", "application/x-pickle", JSON, "application/data", YAML])
@pytest.mark.parametrize("where", ["alone", "as arguments"])
def test_what_is_no_json_is_not_even_opened(
    deployment: Deployment, broker: redis.Redis, tmp_path: Path, kind: str, where: str
) -> None:
    made = tmp_path / "made"
    touch = Touch(made)
    body = pickle.dumps(touch if where == "alone" else ([touch, 1, 1, "echo"], {}, {}))
    if kind == YAML:
        body = f'!!python/object/apply:os.mknod ["{made}"]'.encode()
    passes_between_neighbours(deployment, broker, envelope(body, kind))
    assert not made.exists()
    # And it would have: what the test shows is that nobody looked.
    if kind == PICKLE:
        pickle.loads(body)  # noqa: S301
        assert made.exists()
