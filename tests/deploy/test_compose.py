"""compose.yaml: valid, strict about what each service may do, and every service of it comes up with just that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.settings import DEFAULT_FILE
from tasks.services import services as services_of
from tests.support import compose, profiles
from tests.support.containers import NEEDED, Container, Machine, machine
from tests.support.eventually import eventually

DOCUMENT = compose.document()
SERVICES: dict[str, Any] = DOCUMENT["services"]
ENGINES = ("postgres", "valkey")
ONCE = ("migrate",)
NOT_HERE = ("grafana",)  # no package of Debian's or PyPI's has it
OURS = [name for name, service in SERVICES.items() if "build" in service]
WITHIN_S = 60.0

may_isolate = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, NEEDED)), reason=f"needs root, and {', '.join(NEEDED)}"
)


def test_it_is_valid_by_the_specification() -> None:
    command = [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run([*command, compose.FILE], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_what_it_names_is_there() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("secrets", ())) <= DOCUMENT["secrets"].keys(), name
        assert set(service.get("networks", ())) <= DOCUMENT["networks"].keys(), name
        assert set(service.get("depends_on", ())) <= SERVICES.keys(), name
        for source, _, _ in map(compose.mount, service.get("volumes", ())):
            if source.startswith("./"):
                assert (compose.FILE.parent / source).exists(), source
            elif not source.startswith("/"):
                assert source in DOCUMENT["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_may_do_the_least_and_take_its_share(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert "privileged" not in service
    assert {"mem_limit", "cpus", "pids_limit", "logging", "user"} <= service.keys()
    assert ("healthcheck" in service) == (name not in ONCE)
    assert service["restart"] == ("no" if name in ONCE else "unless-stopped")
    assert not any("docker.sock" in volume for volume in service.get("volumes", ()))
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    image, _, version = service["image"].partition(":")
    assert image
    assert version not in {"", "latest"}


def test_the_network_worker_alone_is_root_and_on_the_machines_network() -> None:
    assert [name for name, service in SERVICES.items() if "cap_add" in service] == ["network"]
    assert [name for name, service in SERVICES.items() if service.get("network_mode") == "host"] == ["network"]
    assert [name for name, service in SERVICES.items() if service["user"].startswith(("0", "root"))] == ["network"]
    assert not {"engines"} & set(SERVICES["prometheus"]["networks"] + SERVICES["grafana"]["networks"])


def test_no_password_stands_in_it() -> None:
    """Each comes by a file: without the file nothing starts."""
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            assert not ("PASSWORD" in key and not value.startswith("/run/secrets/")), key
            assert ":" not in value.partition("://")[2].rpartition("@")[0], value
    assert all(set(secret) == {"file"} for secret in DOCUMENT["secrets"].values())


def test_it_runs_the_workers_that_stoker_up_runs_and_gives_them_their_grace() -> None:
    with profiles.in_force(DEFAULT_FILE):
        settings = profiles.settings_of(DEFAULT_FILE, network={"driver": "linux"})
    for service in services_of(settings):
        if service.node is not None:
            written = SERVICES[service.name]
            assert ["-m", *written["command"]] == list(service.argv[1:])
            assert int(written["stop_grace_period"].removesuffix("s")) > settings.timeouts.shutdown_grace_s
    assert SERVICES["beat"]["deploy"]["replicas"] == 2


def test_grafana_finds_its_source_and_its_dashboards() -> None:
    service = SERVICES["grafana"]
    mounts = {target: compose.REPOSITORY / source for source, target, _ in map(compose.mount, service["volumes"])}
    provisioned = mounts["/etc/grafana/provisioning"]
    [source] = yaml.safe_load((provisioned / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "$PROMETHEUS_URL"
    assert service["environment"]["PROMETHEUS_URL"] == "http://prometheus:9090"
    [provider] = yaml.safe_load((provisioned / "dashboards" / "stoker.yml").read_text())["providers"]
    dashboards = list(mounts[provider["options"]["path"]].glob("*.json"))
    assert dashboards
    assert all(json.loads(path.read_text())["uid"] for path in dashboards)


@may_isolate
def test_every_service_comes_up_with_no_more_than_it_is_given() -> None:
    containers = {name: compose.container(SERVICES, name) for name in SERVICES if name not in NOT_HERE}
    spare = {"STOKER_PROFILES__DUCKDB__FLOOR": "1"}
    for name in OURS:
        containers[name] = replace(containers[name], environment={**containers[name].environment, **spare})
    containers["second-beat"] = replace(containers["beat"], name="second-beat")
    with machine() as host:
        _make_database(host, containers["postgres"])
        _up(host, [containers[name] for name in ENGINES])
        migrated = host.run(containers["migrate"], containers["migrate"].argv)
        assert migrated.returncode == 0, migrated.stderr
        _up(host, [each for name, each in containers.items() if name not in (*ENGINES, *ONCE)])

        claimed = host.run(containers["user"], ["stoker", "pool", "claim", "acme", "duckdb", "--wait", "30", "--json"])
        assert claimed.returncode == 0, claimed.stderr + host.tail("spawn")
        assert json.loads(claimed.stdout)["token"]
        network = ["stoker", "network", "create", "blue", "10.1.0.0/24", "--node", "node1", "--wait", "30"]
        made = host.run(containers["network"], network)
        assert made.returncode == 0, made.stdout + made.stderr + host.tail("network")

        def asked() -> list[str]:
            """Prometheus finds out whom to ask some seconds after it started."""
            at = "http://127.0.0.1:9090/api/v1/targets"
            targets = json.loads(host.run(containers["prometheus"], ["wget", "-qO-", at]).stdout)
            return [target["scrapeUrl"] for target in targets["data"]["activeTargets"]]

        eventually(lambda: "http://exporter:9465/metrics" in asked(), "the exporter is asked", within_s=WITHIN_S)
        assert not any("127.0.0.1" in url for url in asked())
        rules = host.run(containers["prometheus"], ["wget", "-qO-", "http://127.0.0.1:9090/api/v1/rules"]).stdout
        assert json.loads(rules)["data"]["groups"]


def _make_database(host: Machine, postgres: Container) -> None:
    """What the image's own entry point does the first time."""
    given = postgres.environment
    initdb = ["initdb", "--username", given["POSTGRES_USER"], "--pwfile", given["POSTGRES_PASSWORD_FILE"]]
    made = host.run(postgres, [*initdb, "--auth-host=scram-sha-256", "--auth-local=trust"])
    assert made.returncode == 0, made.stderr
    single = ["postgres", "--single", "-j", "-D", given["PGDATA"], "postgres"]
    created = host.run(postgres, single, given=f"create database {given['POSTGRES_DB']};\n\n")
    assert created.returncode == 0, created.stderr


def _up(host: Machine, containers: list[Container]) -> None:
    for each in containers:
        host.start(each)

    def is_worth_asking(each: Container) -> bool:
        """A check costs a process: a Celery worker is not asked before it has said that it is ready."""
        return "worker" not in each.argv or host.has_said(each, " ready.") or not host.runs(each)

    for each in containers:
        eventually(lambda each=each: is_worth_asking(each), f"{each.name} is ready", within_s=WITHIN_S)
        eventually(lambda each=each: host.is_well(each), f"{each.name} is well by its own check", within_s=WITHIN_S)
