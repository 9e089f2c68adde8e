"""Which of the processes that run tests beside each other this one is: what they may not share is dealt out by that number."""

from __future__ import annotations

import os
from typing import Final

# pytest's own workers: gw0, gw1, ... of so many.
PROCESSES: Final = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT") or 1)
NUMBER: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw") or 0)
