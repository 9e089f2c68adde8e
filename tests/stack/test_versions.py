"""An upgrade while it works: the version before and this one on one database and one Redis, and nothing is lost or done twice."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from config.names import CLAIM_TASK, RELEASE_TASK, SPAWN_TASK, SWEEP_TASK, TICK_TASKS
from config.settings import Settings
from scheduler.store import history, revision
from scheduler.store.database import Database
from scheduler.store.migrate import Migrated, migrate
from scheduler.store.operations import Operation
from tasks import correlation
from tasks.services import Service
from tests.stack.chaos_operations import lost_updates
from tests.stack.test_operations import lane_taken, until_waiting
from tests.support import profiles
from tests.support.deployment import Deployment, deployed
from tests.support.eventually import eventually
from tests.support.servers import Servers
from tests.support.version_before import ROOT, unpacked

WITHIN_S = 60.0
TURNS = 15
CLAIMS = 24
OLD, NEW = "before", ""
NODES = {OLD: "node1", NEW: "node2"}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(tmp_path_factory.mktemp("before"))


def by(version: Path, *argv: str) -> list[str]:
    """Python with the code of one version, whatever is installed and wherever it is started."""
    return ["/usr/bin/env", "-C", str(version), f"PYTHONPATH={version}", sys.executable, "-P", *argv]


@contextmanager
def working(version: Path, url: str, kind: str) -> Iterator[subprocess.Popen[str]]:
    program = str(ROOT / "tests" / "support" / "both_versions.py")
    worker = subprocess.Popen(
        by(version, program, url, "echo", kind), stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield worker
    finally:
        worker.kill()
        worker.communicate()


def turns(url: str, kind: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "select count(*) from operations where kind = %s and state = 'succeeded'", [kind]
        ).fetchone()
    return int(row[0]) if row else 0


def test_the_tables_are_migrated_under_the_version_before_while_it_claims_and_operates(
    own_database_url: str, before: Path
) -> None:
    url = own_database_url
    with psycopg.connect(url) as connection:
        connection.execute("drop schema public cascade; create schema public")
    program = "import sys; from scheduler.store.migrate import migrate; migrate(sys.argv[1])"
    subprocess.run(by(before, "-c", program, url), check=True)
    with psycopg.connect(url) as connection:
        found = revision.revision(connection)
        assert found == "0004", "the version before is the version before"
        connection.execute(
            """insert into profiles (name, family, spec, floor, max_workers) values ('echo', 'echo', '{"hot_idle_s": 60}', 0, 0);
            insert into tenants (name) select kind || '-' || n from unnest(array['old-1', 'old-2', 'new-1', 'new-2']) kind,
                generate_series(0, 2) n;
            insert into workers (profile, state, ready_at, endpoint) select 'echo', 'idle', now(), 'http://nowhere'
                from generate_series(1, 20)"""
        )
    with ExitStack() as down:
        workers = {kind: down.enter_context(working(before, url, kind)) for kind in ("old-1", "old-2")}

        def until_further(*kinds: str) -> None:
            start = {kind: turns(url, kind) for kind in kinds}

            def ahead() -> bool:
                for kind in kinds:
                    assert workers[kind].poll() is None, workers[kind].communicate()[1][-3000:]
                return all(turns(url, kind) >= start[kind] + TURNS for kind in kinds)

            eventually(ahead, f"{kinds} work on", within_s=WITHIN_S)

        until_further("old-1", "old-2")
        assert migrate(url) == Migrated("0004", revision.NEWEST)
        until_further("old-1", "old-2")
        workers |= {kind: down.enter_context(working(ROOT, url, kind)) for kind in ("new-1", "new-2")}
        until_further(*workers)
        for kind, worker in workers.items():
            _, said = worker.communicate(input="", timeout=WITHIN_S)
            assert worker.returncode == 0, said[-3000:]
            assert said.startswith(f"scheduler of {before if kind.startswith('old') else ROOT}"), said
    with closing(Database(url)) as db:
        assert history.double_claims(db) == history.cross_tenant(db) == history.miscounted_tenants(db) == []
        states = db.rows(
            "select state, step, jsonb_array_length(trail) as ran, count(*) from operations group by 1, 2, 3"
        )
        assert [(row["state"], row["step"], row["ran"]) for row in states] == [("succeeded", 2, 2)]
        assert db.rows("select 1 from runs where state <> 'succeeded'") == []


DOCUMENT = {
    "profiles": {"echo": profiles.echo(floor=2, hot_idle_s=1.0)},
    "logs": {"format": "json"},
    # Not so short that a tick that waits for its turn is taken for lost, and published again.
    "operations": {"lease_s": 3.0, "look_s": 15.0},
    "network": {
        "nodes": {
            node: {"address": f"10.99.0.{n}", "namespace": f"both{n}"} for n, node in enumerate(NODES.values(), 1)
        }
    },
}

_tenants = itertools.count(1)


@pytest.fixture(scope="module")
def both(servers: Servers, before: Path) -> Iterator[Deployment]:
    """Each Celery worker twice, of this version and of the one before; each version serves one of the nodes."""

    def placed(wanted: Sequence[Service], _: Settings) -> list[Service]:
        made = []
        for service in wanted:
            if service.node is None:
                made.append(service)
                continue
            ours = dataclasses.replace(service, argv=serving(service.argv, NODES[NEW]))
            old = f"{service.name}-{OLD}@%h"
            argv = [old if part == service.node else part for part in serving(service.argv, NODES[OLD])]
            theirs = dataclasses.replace(
                service, name=f"{service.name}-{OLD}", node=old, argv=tuple(by(before, *argv[1:]))
            )
            made += [ours, theirs]
        return made

    with deployed(servers, DOCUMENT, placed=placed) as deployment:
        yield deployment


def serving(argv: Sequence[str], node: str) -> tuple[str, ...]:
    """The same worker, of the nodes' queues with those of this one alone."""
    at = argv.index("-Q") + 1
    queues = [queue for queue in argv[at].split(",") if "@" not in queue or queue.endswith(f"@{node}")]
    return (*argv[:at], ",".join(queues), *argv[at + 1 :])


def logged(deployment: Deployment, version: str) -> list[dict[str, Any]]:
    """What the Celery workers of one version have written."""
    logs = [path for path in deployment.settings.locations.logs.glob("*.log") if path.stem.partition("-")[2] == version]
    return [json.loads(line) for path in logs for line in path.read_text().splitlines() if line.startswith("{")]


def received(deployment: Deployment, version: str, task: str) -> list[str]:
    """The ids of this task that workers of one version took from their queues."""
    said = [
        re.match(rf"Task {re.escape(task)}\[(.+)\] received", line["event"]) for line in logged(deployment, version)
    ]
    return [found[1] for found in said if found]


def plug(deployment: Deployment, before: Path, version: str, network: str, name: str) -> Operation:
    """An operation that is submitted by the code of one version."""
    if version == NEW:
        with correlation.within(f"{network}-{name}"):
            return deployment.context.networks.plug(network, name, NODES[NEW])[0]
    program = "import sys; from tasks.context import current; print(current().networks.plug(*sys.argv[1:])[0].id)"
    said = subprocess.run(
        by(before, "-c", program, network, name, NODES[NEW]),
        env=deployment.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    row = deployment.db.row("select id, token, state from operations where id = %(id)s", id=int(said.stdout))
    assert row is not None
    return Operation(row["id"], row["token"], row["state"], is_new=True, correlation_id=None)


def test_the_version_before_works_on_these_tables_and_says_that_it_is_to_be_exchanged(both: Deployment) -> None:
    (*said,) = (line for line in logged(both, OLD) if line["event"].startswith("the tables are of a later version"))
    assert {(line["found"], line["own"]) for line in said} == {(revision.NEWEST, "0004")}


def test_claims_are_served_by_both_versions_and_no_worker_has_two(both: Deployment) -> None:
    app, queue = both.context.app, both.settings.routes[CLAIM_TASK]

    def claim(tenant: str) -> dict[str, Any]:
        sent = app.send_task(CLAIM_TASK, [tenant, "echo"], {"wait_s": 30}, queue=queue)
        held: dict[str, Any] = sent.get(timeout=WITHIN_S)
        assert held["outcome"] == "held"
        return held

    def burst() -> bool:
        """Whether both versions had a part in these claims or in those before: one may be quicker, and take all."""
        tenants = [f"tenant-{next(_tenants)}" for _ in range(CLAIMS)]
        with ThreadPoolExecutor(CLAIMS) as threads:
            held = list(threads.map(claim, tenants))
        assert len({one["worker_id"] for one in held}) == CLAIMS, "all are held at the same time"
        ended = [
            app.send_task(RELEASE_TASK, [one["tenant"], one["worker_id"], one["epoch"]], queue=queue).get(
                timeout=WITHIN_S
            )
            for one in held
        ]
        assert set(ended) == {"hot_idle"}
        return all(received(both, version, task) for version in (OLD, NEW) for task in (CLAIM_TASK, SPAWN_TASK))

    eventually(burst, "each version has served claims and launched workers", within_s=WITHIN_S)
    db = both.db
    assert history.double_claims(db) == history.cross_tenant(db) == history.miscounted_tenants(db) == []


@pytest.mark.parametrize("runner", [OLD, NEW])
@pytest.mark.parametrize("leader", [OLD, NEW])
def test_operations_fold_across_versions_whoever_leads_and_whoever_runs(
    both: Deployment, before: Path, leader: str, runner: str
) -> None:
    """Their shared steps are run at the network's gateway by one version; the rest of each chain by the other as well."""
    number = 1 + 2 * (leader == NEW) + (runner == NEW)
    network, follower = f"blue{number}", NEW if leader == OLD else OLD
    made = both.context.networks.create(network, f"10.{number}.0.0/24", node=NODES[runner])
    assert both.context.operations.wait(made.id, WITHIN_S)["state"] == "succeeded"
    with lane_taken(both, network, NODES[NEW]), lane_taken(both, network, NODES[OLD]):
        first = plug(both, before, leader, network, "web1")
        until_waiting(both, first)
        second = plug(both, before, follower, network, "web2")
        until_waiting(both, second)
    rows = [both.context.operations.wait(operation.id, WITHIN_S) for operation in (first, second)]
    assert [row["state"] for row in rows] == ["succeeded", "succeeded"]
    assert [entry["step"] for row in rows for entry in row["trail"] if "step" in entry] == 2 * list(
        range(rows[0]["steps"])
    )
    folded = [entry for row in rows for entry in row["trail"] if entry["how"] == "folded"]
    assert folded, "they shared no run"
    runs = both.db.rows("select served, state from runs where operation_id = any(%(ids)s)", ids=[first.id, second.id])
    assert {run["state"] for run in runs} == {"succeeded"}
    assert sum(run["served"] for run in runs) == 2 * rows[0]["steps"], "a step was run twice, or never"
    assert lost_updates(both, network) == []
    # The id of whoever gave one stays with its steps, though the other version published some of them.
    ours = first if leader == NEW else second
    lines = [line for line in logged(both, NEW) if str(line.get("task_id")).startswith(f"op{ours.id}.")]
    assert lines
    assert {line.get("correlation_id") for line in lines} == {ours.correlation_id}


def test_no_tick_is_served_twice(both: Deployment) -> None:
    def sweeps() -> list[str]:
        return received(both, OLD, SWEEP_TASK) + received(both, NEW, SWEEP_TASK)

    eventually(lambda: len(sweeps()) > 3, "some sweeps", within_s=WITHIN_S)
    taken = [id_ for task in TICK_TASKS for version in (OLD, NEW) for id_ in received(both, version, task)]
    assert len(taken) == len(set(taken))
    assert [line for version in (OLD, NEW) for line in logged(both, version) if line.get("level") == "error"] == []
