"""What a client of the chaos run does, in a process of its own: claim, use, renew, release, or simply walk away."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scheduler.errors import Temporary
from tasks.celery_app import make_app
from tasks.context import Context
from tasks.pool import Held
from tests.support import profiles

TENANTS = 12
WALKS_AWAY, RENEWS, WAITS = 0.1, 0.3, 0.5
HOLD_S_MAX = 0.05
# All clients rest at the same time (one clock), long enough for tickets to end: what was spawned for them is then surplus,
# and the reaper is at work when they come back.
TIDE_S, EBB_S = 8.0, 3.5
ANSWER_S = 2.0


@dataclass
class Diary:
    """What one client saw. Times are of the machine's monotonic clock, which all its processes share."""

    held: list[tuple[int, int, str, float, float]] = field(default_factory=list)  # worker, epoch, tenant, from, to
    misses: int = 0
    unanswered: int = 0  # the database did not answer
    dead: int = 0  # the worker was killed under its tenant
    denied: list[tuple[int, int, int]] = field(default_factory=list)  # worker, epoch, status: let in by nobody


def live(config: str, engines: dict[str, Any], seed: int, seconds: float) -> Diary:
    """Claim and release for so long."""
    dice = random.Random(seed)
    settings = profiles.settings_of(Path(config), **engines)
    app = make_app("stoker-chaos", settings, set_as_current=False)
    context = Context(settings, app)
    diary, end, pause = Diary(), time.monotonic() + seconds, threading.Event()
    while time.monotonic() < end:
        if (phase_s := time.monotonic() % TIDE_S) < EBB_S:
            pause.wait(min(EBB_S - phase_s, max(0.0, end - time.monotonic())))
        tenant = f"chaos-{dice.randrange(TENANTS)}"
        try:
            claim = context.pool.claim(tenant, "chaos", wait_s=1.0 if dice.random() < WAITS else 0.0)
            if not isinstance(claim, Held):
                diary.misses += 1
                pause.wait(dice.uniform(0, HOLD_S_MAX))
                continue
            began = time.monotonic()
            _use(claim, diary)
            pause.wait(dice.uniform(0, HOLD_S_MAX))
            if dice.random() < RENEWS:
                context.pool.renew(tenant, claim.worker_id, claim.epoch, "chaos")
            diary.held.append((claim.worker_id, claim.epoch, tenant, began, time.monotonic()))
            if dice.random() >= WALKS_AWAY:
                context.pool.release(tenant, claim.worker_id, claim.epoch)
        except Temporary:
            diary.unanswered += 1
    context.db.close()
    return diary


def _use(claim: Held, diary: Diary) -> None:
    parts = urlsplit(claim.endpoint)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=ANSWER_S)
    headers = {"Authorization": f"Bearer {claim.token}", "X-Stoker-Tenant": claim.tenant}
    try:
        connection.request("POST", "/sql", json.dumps({"sql": "select 1"}), headers)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            diary.denied.append((claim.worker_id, claim.epoch, answer.status))
    except (OSError, http.client.HTTPException):
        diary.dead += 1
    finally:
        connection.close()
