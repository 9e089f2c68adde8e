"""A message that is terminated in a worker of threads: its task is told of it, once it runs, and the thread stays whole."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from celery import Celery
from celery.concurrency.thread import TaskPool
from celery.exceptions import Ignore, Retry
from celery.worker import state

from tasks.starts import StartingRequest, StartingTask


class Told(StartingTask):
    """Remembers what it was told."""

    abstract = True
    told: list[str]

    def was_revoked(self, id_: str) -> None:
        self.told.append(id_)


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery("requests", broker="memory://", set_as_current=False) as made:

        @made.task(name="told", base=Told, shared=False)
        def run() -> None:
            """Nothing."""

        made.finalize()
        yield made


def taken(app: Celery) -> Any:
    sent = app.amqp.as_task_v2("7", "told")
    message = SimpleNamespace(headers=sent.headers, body=b"", delivery_info={}, properties={}, payload=sent.body)
    message.content_type = message.content_encoding = None
    return StartingRequest(message, app=app, task=app.tasks["told"])


@pytest.fixture
def request_of(app: Celery) -> Any:
    made = taken(app)
    made.task.told = []
    return made


@pytest.mark.parametrize("error", [Ignore(), Retry()])
def test_the_message_that_follows_one_of_its_id_is_found_when_that_one_is_done_with(
    app: Celery, error: Exception
) -> None:
    first, later = taken(app), taken(app)
    try:
        for each in (first, later):
            state.task_reserved(each)
        try:
            raise error
        except type(error):
            first.on_failure(ExceptionInfo())
        # Where Celery looks for what it is to terminate.
        assert state.requests["7"] is later
        state.task_ready(later)
        assert "7" not in state.requests
    finally:
        state.reset_state()


def test_what_runs_is_told_at_once(request_of: StartingRequest) -> None:
    request_of.on_accepted(os.getpid(), time.monotonic())
    request_of.terminate(TaskPool(1), "SIGTERM")
    assert request_of.task.told == ["7"]


def test_what_no_thread_has_taken_yet_is_told_when_one_does(request_of: StartingRequest) -> None:
    request_of.terminate(TaskPool(1), "SIGTERM")
    assert request_of.task.told == []
    # Here Celery ends it; an error would be the thread's, which then neither runs nor returns the message.
    request_of.on_accepted(os.getpid(), time.monotonic())
    assert request_of.task.told == ["7"]
