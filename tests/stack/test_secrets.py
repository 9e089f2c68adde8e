"""Passwords and tokens of a deployment that runs and fails stand in no log, row, page, metric, output or command line."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from config.flower_files import cookie_file, password_file
from config.names import CLAIM_TASK, RELEASE_TASK, RENEW_TASK
from scheduler.store.schema import metadata
from tests.stack.test_operations import ended
from tests.support.commands import call, here
from tests.support.deployment import Deployment
from tests.support.eventually import eventually
from tests.support.flower import Flower
from tests.support.guarded import Engines, guarded_deployment, guarded_engines

WITHIN_S = 60.0
REDIS, DATABASE = "Zwetschge/of:the@broker%20", "Mirabelle/das:geheime@Wort%20"
WRONG = "Reineclaude"
READING = (
    ("doctor",),
    ("status",),
    ("events", "--limit", "1000"),
    ("pool", "status"),
    ("pool", "workers", "--ended"),
    ("queues",),
    ("op", "list"),
    ("op", "show", "1"),
    ("schedule", "list"),
    ("top", "--once"),
)


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    with guarded_engines(REDIS, DATABASE) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with guarded_deployment(tmp_path_factory.mktemp("stack"), engines) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def lived(guarded: Deployment, engines: Engines) -> dict[str, str]:
    """By name the secrets of a deployment in which much was done, and much went wrong."""
    found = {"redis": REDIS, "database": DATABASE, "redis in a URL": quote(REDIS, safe="")}
    found |= {"database in a URL": quote(DATABASE, safe=""), "wrong": WRONG}
    locations = guarded.settings.locations
    found |= {
        "flower": password_file(locations).read_text().strip(),
        "cookies": cookie_file(locations).read_text().strip(),
    }
    for tenant in ("acme", "globex"):
        held = call(guarded, CLAIM_TASK, tenant, "echo", wait_s=WITHIN_S)
        claim = (tenant, held["worker_id"], held["epoch"])
        found[f"token of {tenant}"] = held["token"]
        assert call(guarded, RENEW_TASK, *claim, "echo") is True
    assert call(guarded, RELEASE_TASK, *claim) == "hot_idle"
    told = json.loads(here(guarded, "pool", "claim", "initech", "echo", "--wait", "30", "--json").stdout)
    found["token of initech"] = told["token"]
    call(guarded, CLAIM_TASK, "acme", "no-such-profile")
    assert ended(guarded, guarded.context.networks.create("blue", "10.1.0.0/24"))["state"] == "succeeded"
    # A worker that loses its broker says so, at length.
    with engines.valkey.watcher() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    for name, url, password in (
        ("redis_url", engines.redis_url, REDIS),
        ("database_url", engines.database_url, DATABASE),
    ):
        wrong = guarded.settings.model_copy(update={name: url.replace(quote(password, safe=""), WRONG)})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tasks.cli.doctor.load", lambda wrong=wrong: wrong)
            refused = here(guarded, "doctor")
        assert (refused.returncode, leaks(found, refused.stdout + refused.stderr)) == (1, [])
    for row in guarded.db.rows("select id, activation_key from workers"):
        found[f"key of worker {row['id']}"] = row["activation_key"]
    return found


def page_of(flower: Flower, path: str) -> str:
    with suppress(urllib.error.HTTPError):
        return flower.page(path)
    return ""


def leaks(secrets: Mapping[str, str], text: str) -> list[str]:
    return [name for name, secret in secrets.items() if secret in text]


def test_no_log_has_one(guarded: Deployment, engines: Engines, lived: dict[str, str]) -> None:
    logs = [*guarded.settings.locations.logs.iterdir(), engines.valkey.log, *engines.folder.glob("postgres/logs/*")]
    assert {"user.log", "flower.log", "exporter.log", "log"} <= {log.name for log in logs}
    assert {log.name: leaks(lived, log.read_text(errors="replace")) for log in logs} == {log.name: [] for log in logs}


def test_no_command_line_has_one(lived: dict[str, str]) -> None:
    lines = [" ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"])]
    assert [line for line in lines if leaks(lived, line)] == []


def test_no_row_has_one(guarded: Deployment, lived: dict[str, str]) -> None:
    """But for the key by which a worker knows the control plane, in the worker's row."""
    for table in metadata.tables:
        rows = guarded.db.rows(f"select (to_jsonb(t) - 'activation_key')::text as text from {table} t")  # noqa: S608
        assert leaks(lived, " ".join(row["text"] for row in rows)) == [], table
    rows = guarded.db.rows("select to_jsonb(w)::text as text from workers w")
    assert leaks(lived, " ".join(row["text"] for row in rows)), "with its key a worker's row has one: this can see them"


def test_no_page_of_flower_has_one(guarded: Deployment, lived: dict[str, str]) -> None:
    flower = Flower(guarded.settings)
    eventually(lambda: "user" in flower.workers(), "Flower knows the workers", within_s=WITHIN_S)
    nodes = flower.json("/api/workers?refresh=1")
    paths = [
        "/workers",
        "/tasks",
        "/broker",
        "/api/workers",
        "/api/tasks?limit=1000",
        "/api/queues/length",
        "/metrics",
    ]
    paths += [f"/worker/{node}" for node in nodes] + [f"/task/{task}" for task in flower.tasks()]
    for path in paths:
        # A worker that has just lost its broker has no page for a moment.
        text = eventually(lambda path=path: page_of(flower, path), f"{path} is there", within_s=WITHIN_S)
        assert leaks({k: v for k, v in lived.items() if k != "flower"}, text) == [], path


def test_no_metric_has_one_and_no_label_is_a_tenant(guarded: Deployment, lived: dict[str, str]) -> None:
    with urllib.request.urlopen(
        f"http://127.0.0.1:{guarded.settings.exporter.port}/metrics", timeout=WITHIN_S
    ) as answer:
        text = answer.read().decode()
    assert leaks(lived, text) == []
    assert not [tenant for tenant in ("acme", "globex", "initech") if tenant in text]


@pytest.mark.parametrize("command", READING, ids=" ".join)
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_no_command_prints_one(
    guarded: Deployment,
    lived: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    form: tuple[str, ...],
) -> None:
    monkeypatch.setattr("tasks.cli.doctor.load", lambda: guarded.settings)
    done = here(guarded, *command, *form)
    assert done.returncode == 0, done.stderr
    assert leaks(lived, done.stdout + done.stderr) == []


def test_a_report_of_celerys_settings_has_none(guarded: Deployment, lived: dict[str, str]) -> None:
    """What Flower shows of a worker's settings is among its pages."""
    argv = (sys.executable, "-m", "celery", "-A", "tasks", "report")
    env = guarded.environment()
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=WITHIN_S, check=True)
    assert "broker_url" in done.stdout
    assert leaks(lived, done.stdout + done.stderr) == []


def test_no_file_that_others_can_read_has_one(guarded: Deployment, engines: Engines, lived: dict[str, str]) -> None:
    others = stat.S_IRWXG | stat.S_IRWXO
    read = []
    for root in (guarded.settings.locations.state_dir, engines.folder):
        for folder, names, files in os.walk(root):
            names[:] = [name for name in names if (Path(folder) / name).stat().st_mode & others]
            for file in (Path(folder) / name for name in files):
                if file.stat().st_mode & others and stat.S_ISREG(file.stat().st_mode):
                    read.append(file.name)
                    assert leaks(lived, file.read_bytes().decode(errors="replace")) == [], file
    assert "stoker.toml" in read
