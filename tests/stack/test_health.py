"""`stoker health` tells who works from who merely runs, in time, and says it in one line without a password."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import Any

import pytest

from tasks.health import STALE_S, sign_of_life
from tests.support.deployment import BEATS, CLI, Deployment
from tests.support.eventually import eventually

PATIENCE_S = 20.0
PATIENTLY = ("--timeout", str(PATIENCE_S))


def asked(deployment: Deployment, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code, and what was found by service."""
    ended = deployment.cli("health", *arguments, "--json")
    assert not ended.stderr
    return ended.returncode, {each["service"]: each for each in json.loads(ended.stdout)}


def test_everything_of_this_machine_is_asked_at_once(deployment: Deployment) -> None:
    code, found = asked(deployment, *PATIENTLY)
    # The suite's deployment runs without these two.
    assert [name for name, each in found.items() if not each["ok"]] == ["flower", "exporter"]
    assert {"control", "spawn", "user", "beat", "engines"} <= found.keys()
    assert code == 1
    assert all(each["seconds"] < PATIENCE_S for each in found.values())


def test_one_service_alone_is_asked_by_its_name(deployment: Deployment) -> None:
    for arguments in (["user"], ["anything", "--node", "user@%h"]):
        code, found = asked(deployment, *arguments, *PATIENTLY)
        assert code == 0, found
        assert list(found) == arguments[:1]
    assert deployment.cli("health", "beat").stdout.startswith("ok")


def test_a_worker_that_runs_and_does_not_answer_is_unwell(deployment: Deployment) -> None:
    deployment.stack.kill("user", signal.SIGSTOP)
    try:
        code, found = asked(deployment, "user", "--timeout", "3")
    finally:
        deployment.stack.kill("user", signal.SIGCONT)
    assert (code, found["user"]["ok"]) == (1, False)
    assert "no answer" in found["user"]["found"]


def test_a_beat_whose_loop_stands_still_is_unwell(deployment: Deployment) -> None:
    path = sign_of_life(deployment.settings.locations)
    for beat in BEATS:
        deployment.stack.kill(beat, signal.SIGSTOP)
    try:
        then = path.stat().st_mtime - STALE_S - 10
        os.utime(path, (then, then))
        code, found = asked(deployment, "beat")
    finally:
        for beat in BEATS:
            deployment.stack.kill(beat, signal.SIGCONT)
    assert code == 1
    assert "last came round" in found["beat"]["found"]
    eventually(lambda: path.stat().st_mtime > then + STALE_S, "its loop comes round again", within_s=10)


@pytest.mark.parametrize("service", ["engines", "spawn"])
def test_engines_that_are_away_are_said_in_time_and_without_their_password(service: str) -> None:
    away = {
        "STOKER_DATABASE_URL": "postgresql://stoker:hush@127.0.0.1:1/x",
        "STOKER_REDIS_URL": "redis://:hush@127.0.0.1:1/0",
    }
    ended = subprocess.run(
        [*CLI, "health", service, *PATIENTLY],
        env={**os.environ, **away},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stdout.startswith("UNWELL")
    assert "hush" not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
