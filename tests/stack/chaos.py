"""Claims and releases under fire: workers and Celery processes killed by kill -9, and then the record is read.

Run it by itself with ``python -m tests.stack.chaos [--json]``; STOKER_CHAOS_PROCESSES, STOKER_CHAOS_S and
STOKER_CHAOS_SEED say how many, for how long, and which dice.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise

from scheduler.store import history
from tests.stack import clients
from tests.stack.clients import Diary
from tests.support import profiles
from tests.support.crowd import crowd
from tests.support.deployment import BEATS, COMPANIONS, Deployment, deployed
from tests.support.servers import Servers, running_servers

SETTLE_S = 45.0
KILL_WORKER_EVERY_S = 0.3
KILL_SERVICE_EVERY_S = 4.0
SERVICES = ("spawn", "control", "user", *BEATS)

DOCUMENT = {
    "profiles": {
        "chaos": profiles.echo(
            floor=12, max_workers=40, hot_idle_s=3.0, idle_timeout_s=1.0, lease_s=2.0, ready_s=20.0, spawn_budget_s=40.0
        )
    },
    "schedule": {"reconcile_s": 1.0, "reap_s": 1.0, "sweep_s": 1.0},
    "backoff": {"first_s": 0.2, "max_s": 1.0},
}


@dataclass(frozen=True)
class Report:
    """What was done, and what must be empty."""

    seed: int
    processes: int
    seconds: float
    claims: int
    misses: int
    unanswered: int
    used_after_death: int
    killed_workers: int
    killed_services: int
    spawned: int
    reaped: int
    denied: list[object]
    overlapping_holds: list[object]
    double_claims: list[object]
    cross_tenant: list[object]
    miscounted_tenants: list[object]
    rows_without_worker: list[int]
    workers_without_row: list[int]

    @property
    def violations(self) -> dict[str, list[object]]:
        return {name: found for name, found in asdict(self).items() if isinstance(found, list) and found}


class Killer:
    """kill -9 of workers and of Celery processes, by the dice, until told to stop."""

    def __init__(self, deployment: Deployment, dice: random.Random) -> None:
        self._deployment = deployment
        self._dice = dice
        self._over = threading.Event()
        self.workers = self.services = 0

    def run(self) -> None:
        service_due = time.monotonic() + KILL_SERVICE_EVERY_S
        while not self._over.wait(self._dice.uniform(0, 2 * KILL_WORKER_EVERY_S)):
            context = self._deployment.context
            running = context.launcher.list(context.pool_id)
            if running:
                with suppress(ProcessLookupError):
                    os.kill(int(self._dice.choice(running).handle["pid"]), signal.SIGKILL)
                    self.workers += 1
            if time.monotonic() >= service_due:
                self._deployment.stack.kill(self._dice.choice(SERVICES))
                self.services += 1
                service_due += KILL_SERVICE_EVERY_S

    def stop(self) -> None:
        self._over.set()


def run(servers: Servers, *, processes: int, seconds: float, seed: int) -> Report:
    """The whole of it on a deployment of its own."""
    dice = random.Random(seed)
    with deployed(servers, DOCUMENT, without=COMPANIONS) as deployment:
        deployment.until_idle("chaos", 1)
        killer = Killer(deployment, dice)
        engines = {
            "database_url": deployment.settings.database_url,
            "redis_url": deployment.settings.redis_url,
            "state_dir": deployment.settings.locations.state_dir,
        }
        arguments = [(str(deployment.config), engines, dice.randrange(2**32), seconds) for _ in range(processes)]
        with ThreadPoolExecutor(1) as threads:
            killing = threads.submit(killer.run)
            diaries = crowd(clients.live, arguments)
            killer.stop()
            killing.result()
        unmatched = _settle(deployment)
        return _report(deployment, unmatched, diaries, killer, seed=seed, processes=processes, seconds=seconds)


def _settle(deployment: Deployment) -> tuple[list[int], list[int]]:
    """Wait until rows and processes agree and every walked-away claim has ended, or for as long as that may take.

    What did not agree at the last look: a look reads the one and then the other, and in between the reaper may come.
    """
    deadline = time.monotonic() + SETTLE_S
    pause = threading.Event()
    while time.monotonic() < deadline:
        in_flight = deployment.count("chaos", "spawning", "activating", "active", "hot_idle", "draining")
        if not in_flight and deployment.unmatched() == ([], []):
            return [], []
        pause.wait(0.2)
    return deployment.unmatched()


def _report(
    deployment: Deployment,
    unmatched: tuple[list[int], list[int]],
    diaries: list[Diary],
    killer: Killer,
    *,
    seed: int,
    processes: int,
    seconds: float,
) -> Report:
    rows, workers = unmatched
    events = deployment.db.rows(
        "select kind, coalesce(detail ->> 'reason', '') as reason, count(*)::int as n from events group by 1, 2"
    )
    return Report(
        seed=seed,
        processes=processes,
        seconds=seconds,
        claims=sum(len(diary.held) for diary in diaries),
        misses=sum(diary.misses for diary in diaries),
        unanswered=sum(diary.unanswered for diary in diaries),
        used_after_death=sum(diary.dead for diary in diaries),
        killed_workers=killer.workers,
        killed_services=killer.services,
        spawned=sum(event["n"] for event in events if event["kind"] == "worker.launched"),
        reaped=sum(event["n"] for event in events if event["reason"] == "idle_timeout"),
        denied=[refusal for diary in diaries for refusal in diary.denied],
        overlapping_holds=_overlaps(diaries),
        double_claims=list(history.double_claims(deployment.db)),
        cross_tenant=list(history.cross_tenant(deployment.db)),
        miscounted_tenants=list(history.miscounted_tenants(deployment.db)),
        rows_without_worker=rows,
        workers_without_row=workers,
    )


def _overlaps(diaries: list[Diary]) -> list[object]:
    """Two holds of one worker at one time, or by two tenants at any time, as the clients themselves saw it."""
    held = sorted((hold for diary in diaries for hold in diary.held), key=lambda hold: (hold[0], hold[3]))
    return [
        (before, after)
        for before, after in pairwise(held)
        if before[0] == after[0] and (after[3] < before[4] or after[1] <= before[1] or after[2] != before[2])
    ]


def from_environment(processes: int, seconds: float) -> dict[str, float | int]:
    """How many, for how long, and which dice."""
    return {
        "processes": int(os.environ.get("STOKER_CHAOS_PROCESSES") or processes),
        "seconds": float(os.environ.get("STOKER_CHAOS_S") or seconds),
        "seed": int(os.environ.get("STOKER_CHAOS_SEED") or random.SystemRandom().randrange(2**32)),
    }


def main() -> int:
    """Exit 0 only if nothing was violated."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    as_json = parser.parse_args().json
    with running_servers() as servers:
        report = run(servers, **from_environment(32, 60.0))  # type: ignore[arg-type]
    if as_json:
        print(json.dumps({**asdict(report), "violations": report.violations}, default=str, indent=2))  # noqa: T201
    else:
        for name, value in asdict(report).items():
            print(f"{name:>20}  {value if not isinstance(value, list) else len(value)}")  # noqa: T201
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
