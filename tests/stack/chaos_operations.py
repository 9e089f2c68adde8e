"""Operations under fire: Celery workers killed by kill -9, Redis flushed and killed, and then the record is read.

Run it by itself with ``python -m tests.stack.chaos_operations [--json]``; STOKER_CHAOS_PROCESSES, STOKER_CHAOS_OPERATIONS,
STOKER_CHAOS_NETWORKS, STOKER_CHAOS_S and STOKER_CHAOS_SEED say how many of each, over how long, and which dice.
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
from dataclasses import asdict, dataclass
from typing import Any

import redis

from scheduler.store import networks
from tasks.engines.identity import ProcessIdentity
from tasks.network.compare import differences
from tests.stack import op_clients
from tests.stack.op_clients import OperationDiary
from tests.support import profiles
from tests.support.crowd import crowd
from tests.support.deployment import Deployment, deployed
from tests.support.servers import Servers, running_servers

SETTLE_S = 240.0
HIT_EVERY_S = 2.5
SERVICES = ("user", "user-too", "user", "user-too", "control", "spawn")
FLUSH, KILL_REDIS = 0.2, 0.1  # shares of the hits; the others are workers

DOCUMENT = {
    "profiles": {"echo": profiles.echo()},
    "schedule": {"reconcile_s": 5.0, "reap_s": 5.0, "sweep_s": 1.0},
    "operations": {"lease_s": 3.0, "look_s": 3.0},
    "network": {
        "nodes": {f"n{number}": {"address": f"10.99.0.{number}", "namespace": f"n{number}"} for number in (1, 2, 3)}
    },
}

_OVERLAPS = """
select lane, id, before from (
    select id, lane, began_at, max(ended_at) over (partition by lane order by began_at, id
        rows between unbounded preceding and 1 preceding) as before from runs) r
where before > began_at
"""
_FOLDS = """
select coalesce(sum((e ->> 'where' = 'on_submit')::int), 0)::int as on_submit,
    coalesce(sum((e ->> 'where' = 'at_worker')::int), 0)::int as at_worker
from operations o, jsonb_array_elements(o.trail) e where e ->> 'how' = 'folded' and e ->> 'state' = 'succeeded'
"""


@dataclass(frozen=True)
class Report:
    """What was done, and what must be empty."""

    seed: int
    processes: int
    seconds: float
    took_s: float
    submitted: int
    as_they_were: int
    operations: int
    steps: int
    runs: int
    folded: dict[str, int]
    run_again: dict[str, int]
    temporary: int
    killed: dict[str, int]
    ended: dict[str, int]
    unended: list[object]
    failed: list[object]
    lost_updates: list[object]
    overlapping_runs: list[object]
    left_in_redis: list[object]

    @property
    def violations(self) -> dict[str, list[object]]:
        return {name: found for name, found in asdict(self).items() if isinstance(found, list) and found}


class Hitter:
    """Kills and flushes by the dice, until told to stop."""

    def __init__(self, deployment: Deployment, dice: random.Random) -> None:
        self._deployment, self._dice = deployment, dice
        self._over = threading.Event()
        self.hits: dict[str, int] = {}

    def run(self) -> None:
        own_redis = self._deployment.settings.redis_url is None
        while not self._over.wait(self._dice.uniform(0.5, 1.5) * HIT_EVERY_S):
            choice = self._dice.random()
            if choice < FLUSH:
                self._flush()
            elif choice < FLUSH + KILL_REDIS and own_redis:
                self._hit("valkey")
            else:
                self._hit(self._dice.choice(SERVICES))

    def stop(self) -> None:
        self._over.set()

    def _flush(self) -> None:
        try:
            with redis.Redis.from_url(self._deployment.settings.redis_client_url, socket_timeout=5) as client:
                client.flushdb()
        except redis.RedisError:
            return
        self._count("flush")

    def _hit(self, name: str) -> None:
        if name == "valkey":
            engine = ProcessIdentity.read(self._deployment.settings.locations.run / "valkey.pid")
            if engine is None or not engine.signal(signal.SIGKILL):
                return
        else:
            self._deployment.stack.kill(name)
        self._count(name)

    def _count(self, name: str) -> None:
        self.hits[name] = self.hits.get(name, 0) + 1


def run(servers: Servers, *, processes: int, operations: int, targets: int, seconds: float, seed: int) -> Report:
    """The whole of it on a deployment of its own."""
    dice = random.Random(seed)
    began = time.monotonic()
    with deployed(servers, DOCUMENT, twice=("user",)) as deployment:
        context = deployment.context
        made = [context.networks.create(f"net{number}", f"10.{number + 1}.0.0/24") for number in range(targets)]
        for operation in made:
            context.operations.wait(operation.id, 60.0)
        hitter = Hitter(deployment, dice)
        engines = {
            "database_url": deployment.settings.database_url,
            "redis_url": deployment.settings.redis_url,
            "state_dir": deployment.settings.locations.state_dir,
        }
        each = operations // processes
        arguments = [
            (str(deployment.config), engines, dice.randrange(2**32), client, targets, each, seconds)
            for client in range(processes)
        ]
        with ThreadPoolExecutor(1) as threads:
            hitting = threads.submit(hitter.run)
            try:
                diaries = crowd(op_clients.submit, arguments)
            finally:
                hitter.stop()
                hitting.result()
        _settle(deployment)
        return _report(deployment, diaries, hitter, took_s=time.monotonic() - began, seed=seed, seconds=seconds)


def _settle(deployment: Deployment) -> None:
    """Wait until every operation has ended, or for as long as that may take."""
    deadline, pause = time.monotonic() + SETTLE_S, threading.Event()
    while time.monotonic() < deadline:
        if not deployment.db.rows("select 1 from operations where ended_at is null limit 1"):
            return
        pause.wait(0.2)


def _report(
    deployment: Deployment, diaries: list[OperationDiary], hitter: Hitter, *, took_s: float, seed: int, seconds: float
) -> Report:
    db = deployment.db
    counts = db.row(
        "select count(*)::int as operations, sum(steps)::int as steps, (select count(*) from runs)::int as runs from operations"
    )
    assert counts is not None
    folds = db.row(_FOLDS)
    assert folds is not None
    again = db.row(
        "select count(*) filter (where state = 'lost')::int as lost, count(*) filter (where state = 'retried')::int as retried,"
        " count(*) filter (where attempt > 1)::int as begun_again from runs"
    )
    assert again is not None
    return Report(
        seed=seed,
        processes=len(diaries),
        seconds=seconds,
        took_s=round(took_s, 1),
        submitted=sum(diary.submitted for diary in diaries),
        as_they_were=sum(diary.as_they_were for diary in diaries),
        operations=counts["operations"],
        steps=counts["steps"],
        runs=counts["runs"],
        folded=folds,
        run_again=again,
        temporary=sum(diary.temporary for diary in diaries),
        killed=dict(sorted(hitter.hits.items())),
        ended={
            row["state"]: row["n"]
            for row in db.rows("select state, count(*)::int as n from operations group by 1 order by 1")
        },
        unended=[*db.rows("select id, kind, target, state, step from operations where ended_at is null limit 20")],
        failed=[*db.rows("select id, kind, target, error from operations where state = 'failed' limit 20")],
        lost_updates=lost_updates(deployment),
        overlapping_runs=[*db.rows(_OVERLAPS)],
        left_in_redis=_left(deployment),
    )


def lost_updates(deployment: Deployment, network: str | None = None) -> list[object]:
    """Whatever of a network, or of all, is not as SQL wants it, on any node."""
    context = deployment.context
    found: list[Any] = []
    for row in networks.show(context.db, network):
        for node in context.settings.network.nodes:
            view = networks.view(context.db, row["name"], node, context.underlay) if node in row["nodes"] else None
            seen = context.network_driver.observe(node, row["vni"])
            found += [(row["name"], node, *difference) for difference in differences(view, seen)]
    return found


def _left(deployment: Deployment) -> list[object]:
    """Runs and followers that Redis still knows, when nothing is under way."""
    deadline, pause = time.monotonic() + 20.0, threading.Event()
    with redis.Redis.from_url(deployment.settings.redis_client_url, decode_responses=True) as client:
        while True:
            left = [*client.hgetall("{stoker}:runs").values(), *client.hgetall("{stoker}:following").items()]
            left = [one for one in left if "step." in str(one)]
            if not left or time.monotonic() > deadline:
                return left[:20]
            pause.wait(0.5)


def from_environment(processes: int, operations: int, targets: int, seconds: float) -> dict[str, Any]:
    """How many, over how long, and which dice."""
    return {
        "processes": int(os.environ.get("STOKER_CHAOS_PROCESSES") or processes),
        "operations": int(os.environ.get("STOKER_CHAOS_OPERATIONS") or operations),
        "targets": int(os.environ.get("STOKER_CHAOS_NETWORKS") or targets),
        "seconds": float(os.environ.get("STOKER_CHAOS_S") or seconds),
        "seed": int(os.environ.get("STOKER_CHAOS_SEED") or random.SystemRandom().randrange(2**32)),
    }


def main() -> int:
    """Exit 0 only if nothing was violated."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    as_json = parser.parse_args().json
    with running_servers() as servers:
        report = run(servers, **from_environment(8, 20_000, 50, 120.0))
    if as_json:
        print(json.dumps({**asdict(report), "violations": report.violations}, default=str, indent=2))  # noqa: T201
    else:
        for name, value in asdict(report).items():
            print(f"{name:>20}  {value if not isinstance(value, list) else len(value)}")  # noqa: T201
        for name, found in report.violations.items():
            print(name, *found[:5], sep="\n    ")  # noqa: T201
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
