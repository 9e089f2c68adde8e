"""The rules for Prometheus are valid; each alert fires on what it is for, and is silent else."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool: Debian's package prometheus")


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=HERE, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_and_its_rules_are_valid() -> None:
    promtool("check", "config", "prometheus.yml")


def test_each_alert_fires_on_what_it_is_for_and_is_silent_else() -> None:
    promtool("test", "rules", "tests/stoker.yml")


def test_no_alert_is_without_both_tests_and_a_text() -> None:
    groups = yaml.safe_load((HERE / "rules" / "stoker.yml").read_text())["groups"]
    alerts = {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}
    tested = {test["name"] for test in yaml.safe_load((HERE / "tests" / "stoker.yml").read_text())["tests"]}
    assert tested == {f"{name} {what}" for name in alerts for what in ("fires", "is silent")}
    for rule in alerts.values():
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}


def test_the_page_says_of_each_alert_and_of_no_other_what_to_do() -> None:
    groups = yaml.safe_load((HERE / "rules" / "stoker.yml").read_text())["groups"]
    page = (HERE.parents[1] / "docs" / "metrics.md").read_text()
    said = re.findall(r"^\| `(Stoker\w+)` \| [^|]+ \| [^|]{20,} \|$", page, re.MULTILINE)
    assert sorted(said) == sorted(rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule)
