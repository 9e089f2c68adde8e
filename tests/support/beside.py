"""Which of the processes that run tests beside each other this one is: what they may not share is dealt out by that number."""

from __future__ import annotations

import os
from typing import Final

# pytest's own workers (gw0, gw1, ...), and the id of the run they belong to.
_WORKER: Final = os.environ.get("PYTEST_XDIST_WORKER", "")
_RUN: Final = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
PROCESSES: Final = 2  # as `make test` starts


def worker() -> int:
    """The number of this process within its run."""
    return int(_WORKER.removeprefix("gw") or 0) % PROCESSES


def run() -> int:
    """Another number for each run, as far as that goes: somebody else may be testing on this machine as well."""
    return int(_RUN[:8], 16) if _RUN else os.getpid()
