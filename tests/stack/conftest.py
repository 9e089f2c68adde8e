"""One deployment for all stack tests that need no other: to bring one up takes longer than most of them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support import profiles
from tests.support.deployment import COMPANIONS, Deployment, deployed
from tests.support.servers import Servers

# Short, for a suite that many run; set to 30, the same tests show it at the length of a real start.
READY_DELAY_S = float(os.environ.get("STOKER_TEST_READY_DELAY_S") or 3.0)
SLOW = {"ready_s": READY_DELAY_S + 68, "spawn_budget_s": READY_DELAY_S + 98, "hot_idle_s": 1.0}

DOCUMENT = {
    "profiles": {
        "ramp": profiles.echo(ready_after_s=READY_DELAY_S, floor=5, **SLOW),
        "retry": profiles.echo(ready_after_s=READY_DELAY_S, floor=5, **SLOW),
        "slow": profiles.echo(ready_after_s=READY_DELAY_S + 8, **SLOW),
        "orphaned": profiles.echo(ready_after_s=READY_DELAY_S, **SLOW),
        "fast": profiles.echo(hot_idle_s=1.0),
        "desk": profiles.echo(floor=2, hot_idle_s=1.0),
        "broken": {"command": ["{python}", "-S", "-c", "raise SystemExit(3)"], "memory": "8Mi"},
    },
    "tenants": {"caps": {"capped": {"max_workers": 1}}},
    "backoff": {"first_s": 2.0, "max_s": 60.0},
    "logs": {"format": "json"},
    "operations": {"lease_s": 3.0, "look_s": 3.0},
    "network": {"nodes": {f"node{n}": {"address": f"10.99.0.{n}", "namespace": f"play{n}"} for n in (1, 2, 3)}},
}


@pytest.fixture(scope="session")
def deployment(servers: Servers) -> Iterator[Deployment]:
    with deployed(servers, DOCUMENT, without=COMPANIONS) as running:
        for kind in running.settings.profiles.values():
            running.context.request_reconcile(kind.canonical)
        for family, kind in running.settings.profiles.items():
            running.until_idle(family, kind.floor, within_s=READY_DELAY_S + 60)
        yield running


@pytest.fixture(scope="session")
def desk(deployment: Deployment) -> str:
    """A network of 10.210.0.0/24 with an interface, web1 on node2."""
    networks, operations = deployment.context.networks, deployment.context.operations
    networks.create("desk", "10.210.0.0/24")
    operation, row = networks.plug("desk", "web1", "node2")
    assert (row["address"], operations.wait(operation.id, 30)["state"]) == ("10.210.0.2", "succeeded")
    return "desk"
