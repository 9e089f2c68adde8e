"""A message that is terminated in a worker of threads: its task is told of it, once it runs, and the thread stays whole."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.concurrency.thread import TaskPool

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


@pytest.fixture
def request_of(app: Celery) -> Any:
    sent = app.amqp.as_task_v2("7", "told")
    message = SimpleNamespace(headers=sent.headers, body=b"", delivery_info={}, properties={}, payload=sent.body)
    message.content_type = message.content_encoding = None
    task = app.tasks["told"]
    task.told = []
    return StartingRequest(message, app=app, task=task)


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
