"""`stoker schedule` on a deployment: an edit is in force as it was previewed, what is asked for has the id that was said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from scheduler.store import schedule
from tasks import operation_tasks  # noqa: F401 - a command knows of the tasks that are registered
from tests.support.commands import here, words
from tests.support.deployment import Deployment
from tests.support.eventually import eventually

NAME = "looked-after"
ADD = ("set", NAME, "--task", "network.show", "--every", "1h", "--queue", "user_facing")


@pytest.fixture
def run(deployment: Deployment) -> Iterator[Any]:
    def run(*arguments: str) -> Any:
        ended = here(deployment, "schedule", *arguments, "--json")
        assert (ended.returncode, ended.stderr) == (0, ""), ended
        return json.loads(ended.stdout)

    run(*ADD)
    yield run
    run("reset", NAME)


def test_an_edit_by_command_is_in_force_and_shown(deployment: Deployment, run: Any) -> None:
    def sent() -> list[Any]:
        return [one for one in schedule.ticks(deployment.db, NAME) if one["done_at"] and not one["asked_by"]]

    changed = run("set", NAME, "--every", "200ms")
    eventually(lambda: len(sent()) >= 5, "it is sent", within_s=10)
    run("disable", NAME)
    ticks = [*reversed(sent())]
    assert ticks[0]["due_at"] == datetime.fromisoformat(changed["next"][0])  # as it was previewed
    for one, later in pairwise(ticks):
        gap_s = (later["due_at"] - one["due_at"]).total_seconds()
        assert gap_s == pytest.approx(0.2 * (one["missed"] + 1)), "a time that was neither sent for nor counted"
    assert f"{NAME}+" in words(here(deployment, "schedule"))
    assert "sends, for" in words(here(deployment, "schedule"))
    assert run("show", NAME)["sent"] >= 5


def test_what_is_asked_for_is_sent_under_the_id_that_was_said(run: Any) -> None:
    run("disable", NAME)
    asked = run("run-now", NAME)
    assert asked["beat"]["pid"] > 0

    def sent() -> list[Any]:
        return [one for one in run("show", NAME)["ticks"] if one["done_at"] and one["task_id"] == asked["task_id"]]

    (tick,) = eventually(sent, "it is sent", within_s=10)
    assert (tick["asked_by"], tick["error"]) == (asked["asked_by"], None)
