"""A real Prometheus with the configuration of deploy/prometheus, its targets where a test has them, asked by its HTTP API."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml

from tests.support.eventually import eventually
from tests.support.ports import LOOPBACK, free_port

CONFIGURATION = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
INTERVAL = "1s"
WITHIN_S = 60.0


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    url: str

    def ask(self, path: str, **parameters: str) -> Any:
        """What its API answers; an error of a query is raised with what it says."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=WITHIN_S) as answer:  # noqa: S310
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.SERVICE_UNAVAILABLE:  # it starts
                raise
            said = f"{parameters}: {error.read().decode()}"
            raise AssertionError(said) from error

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def until(self, expression: str) -> list[dict[str, Any]]:
        """The series that it gives as soon as there are any."""
        return eventually(lambda: self.query(expression), f"data of {expression}", within_s=WITHIN_S)

    def is_up(self, jobs: Mapping[str, str]) -> bool:
        """Whether every one of these jobs is scraped, and no other."""
        targets = self.ask("targets")["activeTargets"]
        return {one["labels"]["job"]: one["health"] for one in targets} == dict.fromkeys(jobs, "up")


@contextmanager
def scraping(folder: Path, targets: Mapping[str, str]) -> Iterator[Prometheus]:
    """One that scrapes these addresses by job each second, for the time of the block; up when it begins."""
    document = yaml.safe_load((CONFIGURATION / "prometheus.yml").read_text())
    document["global"] = {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL}
    document["rule_files"] = [str(CONFIGURATION / name) for name in document["rule_files"]]
    for job in document["scrape_configs"]:
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    written = folder / "prometheus.yml"
    written.write_text(yaml.safe_dump(document))
    address = f"{LOOPBACK}:{free_port()}"
    command = ["prometheus", f"--config.file={written}", f"--storage.tsdb.path={folder / 'data'}"]
    log = (folder / "prometheus.log").open("w")
    with log, subprocess.Popen([*command, f"--web.listen-address={address}"], stderr=log, stdout=log) as process:
        try:
            made = Prometheus(f"http://{address}")

            def up() -> bool:
                assert process.poll() is None, (folder / "prometheus.log").read_text()[-2_000:]
                try:
                    return made.is_up(targets)
                except OSError:
                    return False

            eventually(up, f"every target of {sorted(targets)} is up", within_s=WITHIN_S)
            yield made
        finally:
            process.terminate()
