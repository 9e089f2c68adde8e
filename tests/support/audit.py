"""`make audit`: whether a locked dependency has a known fault, where that can be looked up.

pip-audit calls a package that the index has never heard of `skipped`, and then finds nothing in it: behind a mirror that
has no advisories it would pass with not one of them looked up. So what was looked up is counted. Only a fault that was found
is a failure: whether a network is there is no property of this project.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"
# Where advisories are asked for, in this order.
SERVICES = ("pypi", "osv")
TIMEOUT_S = 60
FOUND, CLEAN = 1, 0


def judge(report: dict[str, Any], service: str) -> tuple[int, list[str]] | None:
    """The exit code and the lines that say why; None: nothing could be looked up there."""
    looked_up = [one for one in report["dependencies"] if "skip_reason" not in one]
    if not looked_up:
        return None
    faults = [
        f"{one['name']} {one['version']}: {fault['id']}"
        f"{', mended in ' + ', '.join(fault['fix_versions']) if fault['fix_versions'] else ''}"
        for one in looked_up
        for fault in one["vulns"]
    ]
    skipped = len(report["dependencies"]) - len(looked_up)
    missed = f"; {skipped} are unknown there and were NOT looked up" if skipped else ""
    summary = f"{len(looked_up)} dependencies looked up ({service}), {len(faults)} known faults{missed}"
    return (FOUND if faults else CLEAN), [*faults, summary]


def ask(service: str, lock: Path) -> dict[str, Any] | None:
    """The report of pip-audit; None: the service did not answer."""
    options = ("--disable-pip", "--require-hashes", "--progress-spinner", "off", "--timeout", "10", "-f", "json")
    argv = (sys.executable, "-m", "pip_audit", "-s", service, *options, "-r", str(lock))
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        report: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return None
    return report


def main(services: Sequence[str] = SERVICES, lock: Path = LOCK) -> int:
    for service in services:
        report = ask(service, lock)
        verdict = report and judge(report, service)
        if verdict:
            code, lines = verdict
            say(*lines)
            return code
        say(f"no advisories from {service}: it does not answer, or knows none of the dependencies")
    say("NOT AUDITED: no dependency was looked up. Run `make audit` where pypi.org or api.osv.dev can be reached.")
    return CLEAN


def say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
