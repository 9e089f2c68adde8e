"""What a figure depends on: the machine, the versions, the load beside it. No name and no path of the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil

_ROOT: Final = Path(__file__).parent.parent
_PACKAGES: Final = ("celery", "kombu", "psycopg", "redis", "sqlalchemy")


def facts() -> dict[str, Any]:
    """Of this machine, at this moment."""
    return {
        "cpu_model": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
        "load_average": load_average(),
    }


def load_average() -> list[float]:
    """Over 1, 5 and 15 minutes. Far above zero before a bench begins, its milliseconds mean little; its ratios still do."""
    return [round(load, 2) for load in os.getloadavg()]


def commit() -> str | None:
    """What was measured; None outside of a checkout. With a + when files differ from that commit."""
    try:
        head = _git("rev-parse", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    return subprocess.run(  # noqa: S603 - arguments of our own
        ["git", *arguments],  # noqa: S607 - whichever git the caller has
        cwd=_ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=10,
    ).stdout.strip()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
