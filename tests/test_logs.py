"""Log lines hold no secret, and as JSON each is one object, whoever wrote it."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from celery import Celery

from config.settings import SettingsError, load
from tasks.logs import HIDDEN, add_task, configure_logs, hide_secrets, json_formatter
from tests.support import profiles

SECRET = "hunter2-hunter2"  # noqa: S105 - what must not be seen


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What a process that writes JSON has written."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(json_formatter())
    logger = logging.getLogger("stoker-test-logs")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    configure_logs("json")
    yield out
    logger.removeHandler(handler)
    configure_logs()


def written(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(
    "facts",
    [
        {"token": SECRET},
        {"activation_key": SECRET},
        {"detail": {"password": SECRET}},
        {"error": f"cannot reach redis://:{SECRET}@cache:6379/0"},
        {"event": f"cannot reach postgresql://stoker:{SECRET}@db/stoker, gives up"},
        {"urls": [f"rediss://user:{SECRET}@cache/1"]},
    ],
)
def test_no_secret_is_left(facts: dict[str, Any]) -> None:
    assert SECRET in str(facts)
    hidden = hide_secrets(None, "info", dict(facts))
    assert SECRET not in str(hidden)
    assert HIDDEN in str(hidden)


def test_what_is_no_secret_stays() -> None:
    facts = {"event": "at http://127.0.0.1:21000/ready", "worker": 7, "tenant": "acme", "left": ["a", "b"]}
    assert hide_secrets(None, "info", dict(facts)) == facts


def test_a_line_of_ours_is_one_object_with_its_facts(lines: io.StringIO) -> None:
    structlog.get_logger("stoker-test-logs").info("worker is ready", worker=7, token=SECRET)
    (line,) = written(lines)
    assert (line["event"], line["worker"], line["token"], line["level"]) == ("worker is ready", 7, HIDDEN, "info")
    assert line["logger"] == "stoker-test-logs"
    assert line["at"].endswith("Z")


def test_a_line_of_a_library_has_the_same_form_and_no_password(lines: io.StringIO) -> None:
    logging.getLogger("stoker-test-logs").warning("cannot connect to %s", f"redis://:{SECRET}@cache:6379/0")
    (line,) = written(lines)
    assert line["event"] == f"cannot connect to redis://:{HIDDEN}@cache:6379/0"
    assert line["level"] == "warning"


def test_an_exception_stays_on_its_line(lines: io.StringIO) -> None:
    def ask() -> None:
        raise ValueError(f"no answer from redis://:{SECRET}@cache:6379/0")

    try:
        ask()
    except ValueError:
        logging.getLogger("stoker-test-logs").exception("failed")
    (line,) = written(lines)
    assert "ValueError" in line["exception"]
    assert SECRET not in line["exception"]


def test_a_line_written_in_a_task_names_it() -> None:
    app = Celery("stoker-test-logs", set_as_current=False)

    @app.task(name="look")
    def look() -> dict[str, Any]:
        return dict(add_task(None, "info", {"event": "looked"}))

    assert look.apply(task_id="7").get() == {
        "event": "looked",
        "task": "look",
        "task_id": "7",
        "root_id": "7",
    }
    assert add_task(None, "info", {"event": "looked"}) == {"event": "looked"}


def test_an_unknown_form_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_CONFIG", str(profiles.write(tmp_path / "stoker.toml", {"logs": {"format": "xml"}})))
    with pytest.raises(SettingsError, match=r"logs\.format.*'console' or 'json'"):
        load()


def test_a_worker_writes_json_from_its_first_line_on(tmp_path: Path) -> None:
    """It finds no engines, and says so."""
    config = profiles.write(
        tmp_path / "stoker.toml", {"profiles": {"echo": profiles.echo()}, "logs": {"format": "json"}}
    )
    env = {
        **os.environ,
        "STOKER_CONFIG": str(config),
        "STOKER_STATE_DIR": str(tmp_path),
        "STOKER_DATABASE_URL": "postgresql://stoker@127.0.0.1:1/stoker",
        "STOKER_REDIS_URL": f"redis://:{SECRET}@127.0.0.1:1/0",
        # What Python says of a worker that runs as root is no line of a log.
        "PYTHONWARNINGS": "ignore",
    }
    argv = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-Q", "spawn", "-P", "threads", "-l", "INFO"]
    with subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr is not None
        first = worker.stderr.readline()
        worker.kill()
    assert SECRET not in first
    line = json.loads(first)
    assert (line["logger"], line["level"]) == ("tasks.bootsteps", "warning")
    assert line["event"].startswith("engines not checked")
