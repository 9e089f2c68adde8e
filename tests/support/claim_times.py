"""How long claims take, measured in a process of its own: what else a test's process does would be measured with them."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from tasks.celery_app import make_app
from tasks.context import Context
from tasks.pool import Held
from tests.support import profiles


def warm_median_s(config: str, engines: dict[str, Any], tenant: str, family: str, many: int) -> float:
    """Of claims of a worker that is there, each given back: the first finds it warm, the others hot."""
    settings = profiles.settings_of(Path(config), **engines)
    app = make_app("stoker-times", settings, set_as_current=False)
    context = Context(settings, app)
    took = []
    for _ in range(many):
        began = time.monotonic()
        claim = context.pool.claim(tenant, family, wait_s=30.0)
        took.append(time.monotonic() - began)
        assert isinstance(claim, Held), claim
        context.pool.release(tenant, claim.worker_id, claim.epoch)
    context.close()
    app.close()
    return statistics.median(took)
