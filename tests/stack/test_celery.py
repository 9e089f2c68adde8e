"""Claims for any Celery client by name, and no secret where others can read it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from celery import Celery

from config.names import CLAIM_TASK, RELEASE_TASK, RENEW_TASK
from tests.support.deployment import Deployment
from tests.support.eventually import eventually

ANSWER_S = 60.0


def call(deployment: Deployment, task: str, *arguments: Any, **options: Any) -> Any:
    queue = deployment.settings.routes[task]
    return deployment.context.app.send_task(task, args=arguments, kwargs=options, queue=queue).get(timeout=ANSWER_S)


@contextmanager
def overheard(app: Celery) -> Iterator[list[dict[str, Any]]]:
    """Every event that the Celery workers send meanwhile."""
    heard: list[dict[str, Any]] = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": heard.append})

        def listen() -> None:
            try:
                receiver.capture(limit=None, timeout=None, wakeup=False)
            except OSError:
                return

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        app.control.enable_events()
        try:
            yield heard
        finally:
            receiver.should_stop = True
            app.control.disable_events()
            thread.join(timeout=10)


@pytest.fixture(scope="module")
def claimed(deployment: Deployment) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A claim's whole life through Celery, and the events of it."""
    with overheard(deployment.context.app) as heard:
        # What was sent before everybody listens proves nothing: repeat until the life of one claim is on record.
        def a_claim_on_record() -> dict[str, Any] | None:
            answer: dict[str, Any] = call(deployment, CLAIM_TASK, "celery", "desk", wait_s=30)
            assert answer["outcome"] == "held"
            claim = ("celery", answer["worker_id"], answer["epoch"])
            assert call(deployment, RENEW_TASK, *claim, "desk") is True
            assert call(deployment, RELEASE_TASK, *claim) == "hot_idle"
            assert call(deployment, RELEASE_TASK, *claim) is None
            done = {event["uuid"] for event in heard if event["type"] == "task-succeeded"}
            claims = {event["uuid"] for event in heard if event.get("name") == CLAIM_TASK}
            return answer if claims & done else None

        answer = eventually(a_claim_on_record, "the events of a claim", within_s=ANSWER_S)
    assert answer is not None
    return answer, heard


def test_a_celery_client_claims_renews_and_releases_by_name(claimed: tuple[dict[str, Any], list[Any]]) -> None:
    answer, _ = claimed
    assert answer["endpoint"].startswith("http://127.0.0.1:")
    assert answer["token"]


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("celery", "desc"), {}),
        (("Not A Tenant!", "desk"), {}),
        (("celery", "desk"), {"wait_s": -1}),
        (("celery", "desk"), {"wait_s": 1e9}),
        (("celery", "desk"), {"wait_s": "nan"}),
        (("x" * 70, "desk"), {}),
    ],
)
def test_bad_input_is_refused_with_a_reason(
    deployment: Deployment, arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    answer = call(deployment, CLAIM_TASK, *arguments, **options)
    assert answer["outcome"] == "refused"
    assert "expected" in answer["reason"]


def test_the_token_is_in_no_event(claimed: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    answer, heard = claimed
    assert {event["type"] for event in heard} >= {"task-received", "task-started", "task-succeeded"}
    assert answer["token"] not in json.dumps(heard, default=str)


def test_no_token_and_no_key_in_any_log(deployment: Deployment, claimed: tuple[dict[str, Any], list[Any]]) -> None:
    secrets = [claimed[0]["token"], *keys(deployment)]
    for log in deployment.settings.locations.logs.glob("*.log"):
        text = log.read_text(errors="replace")
        assert not [secret for secret in secrets if secret in text], log.name


def test_ps_shows_no_token_and_no_key(deployment: Deployment, claimed: tuple[dict[str, Any], list[Any]]) -> None:
    secrets = [claimed[0]["token"], *keys(deployment)]
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert any("demo.echo_server" in line for line in lines)
    assert not [line for line in lines if any(secret in line for secret in secrets)]


def keys(deployment: Deployment) -> list[str]:
    return [row["activation_key"] for row in deployment.db.rows("select activation_key from workers")]
