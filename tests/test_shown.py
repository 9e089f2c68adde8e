"""What people read of a call: each argument by its name, of bounded length, and never a secret."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from hypothesis import given, settings
from hypothesis import strategies as st

from config.names import CLAIM_TASK, PLUG_STEP, RECONCILE_TASK, SPAWN_TASK
from tasks.celery_app import app as real_app
from tasks.logs import HIDDEN
from tasks.shown import CALL_CHARACTERS, NOTHING, shown
from tasks.starts import StartingRequest

SECRET = "hunter2-hunter2"  # noqa: S105 - what must not be seen


@pytest.fixture(scope="module")
def app() -> Celery:
    real_app.loader.import_default_modules()
    return real_app


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "text"),
    [
        (CLAIM_TASK, ("acme", "duckdb"), {"wait_s": 5.0}, "tenant='acme', profile='duckdb', wait_s=5.0"),
        (
            PLUG_STEP,
            (),
            {"network": "blue", "node": "node1", "interface": "web1"},
            "network='blue', node='node1', interface='web1'",
        ),
        (SPAWN_TASK, (7, 1), {}, "worker_id=7, attempt=1"),
        (RECONCILE_TASK, ("duckdb@1f", "more"), {}, "profile='duckdb@1f', 'more'"),
        (RECONCILE_TASK, (), {}, NOTHING),
        ("not.known.here", (1, None, [2, {"a": True}]), {"b": "c"}, "1, None, [2, {'a': True}], b='c'"),
    ],
)
def test_each_argument_is_shown_by_its_name(
    app: Celery, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], text: str
) -> None:
    assert shown(app.tasks.get(name), args, kwargs) == text


def _call(_self: object, user: str, password: str, more: object = None) -> None:
    """A task of somebody's own."""


class _Task:
    run = _call


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("ann", SECRET), {}),
        (("ann",), {"password": SECRET}),
        (("ann",), {"more": {"outcome": "held", "token": SECRET, "tenant": "acme"}}),
        (("ann",), {"more": [[{"activation_key": [SECRET]}]]}),
        (("ann",), {"more": f"postgresql://stoker:{SECRET}@db/stoker"}),
        (([f"redis://:{SECRET}@cache/0"],), {}),
    ],
)
def test_no_secret_is_shown(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    text = shown(_Task(), args, kwargs)
    assert HIDDEN in text
    assert SECRET not in text
    assert SECRET[:5] not in text


_any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes() | st.uuids() | st.binary(),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside) | st.tuples(inside),
    max_leaves=10,
)


@settings(max_examples=60)
@given(st.lists(_any), st.dictionaries(st.text(min_size=1), _any))
def test_whatever_it_was_given_it_is_one_short_line(args: list[Any], kwargs: dict[str, Any]) -> None:
    text = shown(None, args, kwargs)
    assert 0 < len(text) <= CALL_CHARACTERS
    assert text.isprintable()


def test_of_what_is_large_only_the_beginning_is_looked_at() -> None:
    deep: list[Any] = []
    for _ in range(50):
        deep = [deep]
    large = {"a": "x" * 10**7, "b": [*range(10**6)], "c": dict.fromkeys(map(str, range(10**5))), "d": deep}
    began = time.process_time()
    for _ in range(10):
        shown(None, list(large.values()), large)
    assert time.process_time() - began < 1.5


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, ("worker_id=7, attempt=1", "{}")),
        ({"argsrepr": "<its own>"}, ("<its own>", "attempt=1")),
        ({"kwargsrepr": "<its own>"}, ("worker_id=7", "<its own>")),
        ({"argsrepr": "<a>", "kwargsrepr": "<k>"}, ("<a>", "<k>")),
    ],
)
def test_a_worker_shows_a_call_by_what_its_sender_said_or_else_by_names(
    app: Celery, given: dict[str, str], told: tuple[str, str]
) -> None:
    sent = app.amqp.as_task_v2("7", SPAWN_TASK, (7,), {"attempt": 1}, **given)
    assert SPAWN_TASK in sent.headers.values()
    message = SimpleNamespace(headers=sent.headers, body=b"", delivery_info={}, properties={}, payload=sent.body)
    message.content_type = message.content_encoding = None
    request = StartingRequest(message, app=app, task=app.tasks[SPAWN_TASK])
    assert (request.argsrepr, request.kwargsrepr) == told
    # What is told to `celery inspect`, and written when the task fails.
    assert (request.info()["args"], request.info(safe=True)["kwargs"]) == told
    assert (request.request_dict["argsrepr"], request.request_dict["kwargsrepr"]) == told
