"""A whole deployment for a test: real Celery workers and beat, echo workers, a state folder and a database of its own."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from config.settings import Settings
from scheduler.store.beat import active_beat
from scheduler.store.database import Database
from tasks.celery_app import make_app
from tasks.context import Context
from tasks.draining import empty_pool
from tasks.engines import wipe
from tasks.health import check
from tasks.launchers.base import LaunchUnknown
from tasks.services import Service, services
from tasks.supervisor import RestartPolicy
from tasks.up import Stack
from tests.support import beside, profiles
from tests.support.eventually import eventually
from tests.support.profiles import Document
from tests.support.servers import Servers

READY_S = 90.0
_deployments = count()
PORTS_EACH = 500
# Deployments beside each other must not share a port: who binds late loses.
PORT_RANGES = 16
FLOWER, EXPORTER = "flower", "exporter"
BEATS = ("beat", "beat-standby")
COMPANIONS = (FLOWER, EXPORTER)
# A second of a core for each that is started: the standby too is there for those alone who look at it.
UNASKED = (*COMPANIONS, "beat-standby")
CLI = (sys.executable, "-c", "from tasks.cli import main; main()")

# Ticks often enough for a test, and graces that it can wait for.
QUICK: Document = {
    "schedule": {"reconcile_s": 5.0, "reap_s": 5.0, "sweep_s": 2.0},
    "timeouts": {"orphan_grace_s": 3.0, "launch_lease_s": 5.0, "shutdown_grace_s": 5.0},
}


@dataclass
class Deployment:
    """A stack that runs, seen from beside it: the same settings, database and broker."""

    config: Path
    settings: Settings
    context: Context
    stack: Stack
    said: list[str] = field(default_factory=list)

    @property
    def db(self) -> Database:
        return self.context.db

    def canonical(self, family: str) -> str:
        return self.settings.profiles[family].canonical

    def now(self) -> datetime:
        """The database's clock."""
        row = self.db.row("select clock_timestamp() as now")
        assert row is not None
        now: datetime = row["now"]
        return now

    def count(self, family: str, *states: str) -> int:
        """Workers of the profile in these states; in any, ended ones too, where none is named."""
        row = self.db.row(
            "select count(*)::int as n from workers where profile = %(profile)s"
            " and (state = any(%(states)s) or cardinality(%(states)s::text[]) = 0)",
            profile=self.canonical(family),
            states=list(states),
        )
        assert row is not None
        return int(row["n"])

    def until_idle(self, family: str, count: int, *, within_s: float = 30.0) -> None:
        eventually(lambda: self.count(family, "idle") >= count, f"{count} idle workers of {family}", within_s=within_s)

    def events(self, family: str, kind: str, since: datetime) -> list[dict[str, Any]]:
        return self.db.rows(
            "select at, worker_id, detail, extract(epoch from at - %(since)s)::float as after_s from events"
            " where profile = %(profile)s and kind = %(kind)s and at >= %(since)s order by id",
            profile=self.canonical(family),
            kind=kind,
            since=since,
        )

    def told(self, family: str) -> str:
        """What the record says of a profile just now, for the reader of a test that has failed."""
        whose = {"profile": self.canonical(family)}
        parts = {
            "profile": "select floor, failures, backoff_until, draining, clock_timestamp() as now from profiles"
            " where name = %(profile)s",
            "workers": "select id, state, cordoned, node, tenant, state_since, failure from workers where profile = %(profile)s"
            " and (ended_at is null or ended_at > now() - interval '2 min') order by id",
            "tickets": "select * from tickets where profile = %(profile)s",
            "nodes": "select * from nodes",
            "events": "select at, kind, worker_id, detail from events where profile = %(profile)s"
            " and at > now() - interval '2 min' order by id",
        }
        lines = [f"{name} {dict(row)}" for name, asked in parts.items() for row in self.db.rows(asked, **whose)]
        return "\n".join([f"of profile {family}:", *lines])

    def environment(self) -> dict[str, str]:
        """What a command beside the stack needs to find it."""
        given = {
            "STOKER_CONFIG": str(self.config),
            "STOKER_STATE_DIR": str(self.settings.locations.state_dir),
            "STOKER_DATABASE_URL": self.settings.database_url,
            "STOKER_REDIS_URL": self.settings.redis_url,
        }
        return {**os.environ, **{name: value for name, value in given.items() if value is not None}}

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CLI, *arguments], env=self.environment(), capture_output=True, text=True, timeout=60, check=False
        )

    def unmatched(self) -> tuple[list[int], list[int]]:
        """Live launched rows without their process or pod, and those that are the pool's without their row."""

        def known_by(handle: Mapping[str, Any]) -> Any:
            return handle["uid"] if "uid" in handle else handle["pid"]

        running = {(one.worker_id, known_by(one.handle)) for one in self.context.launcher.list(self.context.pool_id)}
        rows = {
            (row["id"], known_by(row["handle"]))
            for row in self.db.rows("select id, handle from workers where ended_at is null and handle is not null")
        }
        return sorted(worker for worker, _ in rows - running), sorted(worker for worker, _ in running - rows)

    def agree(self) -> bool:
        """Whether nothing is unmatched; of a platform that cannot be asked just now, nobody knows that."""
        with suppress(LaunchUnknown):
            return self.unmatched() == ([], [])
        return False


@contextmanager
def deployed(
    servers: Servers,
    document: Document,
    *,
    without: Sequence[str] = UNASKED,
    twice: Sequence[str] = (),
    placed: Callable[[Sequence[Service], Settings], list[Service]] = lambda services, _: list(services),
) -> Iterator[Deployment]:
    """A deployment of these settings, up for the time of the block; afterwards no process of it is left."""
    with ExitStack() as down:
        state_dir = Path(tempfile.mkdtemp(prefix="stoker-test-", dir="/var/tmp"))
        state_dir.chmod(0o711)
        down.callback(shutil.rmtree, state_dir, ignore_errors=True)
        database_url = down.enter_context(servers.database())
        with started(
            state_dir, database_url, servers.redis_apart(), document, without=without, twice=twice, placed=placed
        ) as deployment:
            down.callback(wipe, deployment.settings.locations)
            yield deployment


@contextmanager
def started(
    state_dir: Path,
    database_url: str | None,
    redis_url: str | None,
    document: Document,
    *,
    without: Sequence[str] = UNASKED,
    twice: Sequence[str] = (),
    placed: Callable[[Sequence[Service], Settings], list[Service]] = lambda services, _: list(services),
) -> Iterator[Deployment]:
    """The deployment of a state folder that may have held one before; services named in `twice` have a companion."""
    ports = {"first_port": _next_ports(), "ports": PORTS_EACH}
    config = profiles.write(state_dir / "stoker.toml", {**QUICK, "launcher": {"process": ports}, **document})
    settings = profiles.settings_of(config, state_dir=state_dir, database_url=database_url, redis_url=redis_url)
    app = make_app("stoker-test", settings, set_as_current=False)
    context = Context(settings, app)
    told = {"STOKER_CONFIG": str(config)}
    wanted = [
        dataclasses.replace(service, env={**service.env, **told})
        for service in services(settings)
        if service.name not in without
    ]
    wanted += [_companion(service) for service in wanted if service.name in twice]
    serving = placed(wanted, settings)
    said: list[str] = []

    def ping(nodes: Sequence[str], timeout_s: float) -> set[str]:
        # A connection of its own: kombu keeps those of a broker that has been restarted meanwhile.
        with app.connection_for_write() as connection:
            replies = app.control.ping(destination=list(nodes), timeout=timeout_s, connection=connection)
        return {name for reply in replies for name in reply}

    def empty() -> None:
        empty_pool(context)
        assert context.launcher.list(context.pool_id) == []

    stack = Stack(
        settings,
        prepare=context.prepare,
        on_stop=empty,
        services=serving,
        ping=ping,
        say=said.append,
        policy=RestartPolicy(first_s=0.1, max_s=1.0),
        durable=False,
    )
    with ExitStack() as down:
        down.callback(app.close)
        down.callback(context.db.close)
        down.callback(context.pool.tallies.flush)
        down.callback(context.launcher.close)
        down.callback(context.operations.close)
        with stack:
            stack.wait_ready(READY_S)
            _until_well([service.name for service in serving], context)
            yield Deployment(config, settings, context, stack, said)
            context.operations.close()
        context.hints._redis.connection_pool.disconnect(inuse_connections=False)


def _until_well(names: Collection[str], context: Context) -> None:
    """Those that the stack does not wait for: who comes too early would find no page of theirs, and no beat that sends."""
    for name in {*names} & {*COMPANIONS}:
        eventually(
            lambda name=name: check(name, context.settings, timeout_s=5.0).ok, f"{name} is well", within_s=READY_S
        )
    if {*names} & {*BEATS}:
        eventually(lambda: active_beat(context.db), "a beat sends", within_s=READY_S)


def _companion(service: Service) -> Service:
    name = f"{service.name}-too"
    node = f"{name}@%h"
    argv = tuple(node if part == service.node else part for part in service.argv)
    return dataclasses.replace(service, name=name, argv=argv, node=node)


def _next_ports() -> int:
    each = max(1, PORT_RANGES // beside.PROCESSES)
    return 21_000 + (beside.NUMBER * each + next(_deployments) % each) * PORTS_EACH
