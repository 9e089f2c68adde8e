"""What a deployment is asked for so that each of its figures tells something: claims that end in every way, folds, failures."""

from __future__ import annotations

from config.names import CLAIM_TASK, RELEASE_TASK
from scheduler.store.operations import Operation
from tasks.pool import Held
from tests.support import profiles
from tests.support.commands import call
from tests.support.deployment import Deployment
from tests.support.lanes import lane_taken
from tests.support.profiles import Document

WITHIN_S = 60.0
DOCUMENT: Document = {
    "profiles": {
        "desk": profiles.echo(floor=2, hot_idle_s=30.0),
        "late": profiles.echo(),
        "shut": profiles.echo(),
        "broken": {"command": ["{python}", "-S", "-c", "raise SystemExit(3)"], "memory": "8Mi"},
    },
    "tenants": {"caps": {"capped": {"max_workers": 1}}},
    "backoff": {"first_s": 60.0, "max_s": 60.0},
    "network": {"nodes": {f"node{n}": {"address": f"10.99.0.{n}", "namespace": f"seen{n}"} for n in (1, 2)}},
}


def make_claims(deployment: Deployment) -> None:
    """One of every end, and a spawn that will fail."""
    pool = deployment.context.pool
    deployment.until_idle("desk", 2)
    for origin in ("warm", "hot_idle"):
        held = call(deployment, CLAIM_TASK, "acme", "desk")
        assert (held["outcome"], held["origin"]) == ("held", origin), held
        assert _release(deployment, held) == "hot_idle"
    waited = pool.claim("capped", "late", wait_s=WITHIN_S)
    assert isinstance(waited, Held), waited
    assert waited.origin == "waited"
    assert deployment.cli("pool", "drain", "shut").returncode == 0
    for tenant, profile, reason in (
        ("capped", "late", "tenant_cap"),
        ("acme", "shut", "draining"),
        ("acme", "broken", "no_warm"),
    ):
        answer = pool.claim(tenant, profile)
        assert not isinstance(answer, Held), answer
        assert answer.reason == reason
    pool.release("capped", waited.worker_id, waited.epoch)
    pool.tallies.flush()


def _release(deployment: Deployment, held: dict[str, object]) -> str:
    answer = deployment.context.app.send_task(RELEASE_TASK, (held["tenant"], held["worker_id"], held["epoch"]))
    return str(answer.get(timeout=WITHIN_S))


def make_folds(deployment: Deployment, network: str, prefix: str) -> None:
    """Three equal requests that wait for a lane together, and are one run."""
    networks, operations = deployment.context.networks, deployment.context.operations

    def end(operation: Operation) -> None:
        assert operations.wait(operation.id, WITHIN_S)["state"] == "succeeded"

    end(networks.create(network, prefix, node="node1"))
    end(networks.plug(network, "first", "node1")[0])
    with lane_taken(deployment, network, "node1") as until_parked:
        plugs = [networks.plug(network, f"web{number}", "node1")[0] for number in range(3)]
        until_parked(1)
    for plug in plugs:
        end(plug)
