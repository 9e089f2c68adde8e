"""The cold ramp on a cluster whose nodes hold three pods and take their time: the provisioner is the limit, not the pool.

STOKER_TEST_NODE_S sets how long a node takes, in seconds; a real one takes 120.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from scheduler.store import history
from tasks.pool import Held
from tests.support import profiles
from tests.support.control_plane import ControlPlane
from tests.support.deployment import QUICK, Deployment, deployed
from tests.support.eventually import eventually
from tests.support.kubelet import Kubelet
from tests.support.pods import IMAGE
from tests.support.servers import Servers
from tests.support.shown import show

FLOOR, TENANTS, PODS_PER_NODE = 5, 30, 3
NODE_S = float(os.environ.get("STOKER_TEST_NODE_S") or 4.0)
# From a node that is there to a worker that answers: its scheduler, its agent, a Python process, on a busy machine.
BEYOND_S = 25.0
# A scheduler whose server was restarted may miss the node that a pod waits for, and looks again a minute later. All within
# the limits of the tasks that wait: 300 s of a claim's, 240 s of a spawn's.
AGAIN_S = 60.0
READY_S = min(220.0, NODE_S + 60 + AGAIN_S)
PATIENCE_S = min(295.0, 2 * AGAIN_S + 55.0 + 2 * NODE_S)
ROLES = ("spawn", "control", "user", "beat")


@contextmanager
def ramping(plane: ControlPlane, servers: Servers, twice: Sequence[str] = ()) -> Iterator[tuple[Deployment, Kubelet]]:
    name = f"scale-{uuid.uuid4().hex[:6]}"
    namespace = plane.namespace(name)
    with Kubelet(plane.kubeconfig, nodes=2, pods=PODS_PER_NODE, prefix=name, autoscale_s=NODE_S).running() as nodes:
        times = {"ready_s": READY_S, "spawn_budget_s": READY_S + 10, "lease_s": PATIENCE_S}
        pod = {"image": IMAGE, **nodes.placing}
        cluster = {
            "namespace": namespace,
            "kubeconfig": str(plane.kubeconfig),
            "node_arrives_s": NODE_S,
            "request_s": 2.0,
        }
        document = {
            "profiles": {"ramp": profiles.echo(floor=FLOOR, cpu="10m", kubernetes=pod, **times)},
            "launcher": {"kind": "kubernetes", "kubernetes": cluster},
            "timeouts": {**QUICK["timeouts"], "claim_wait_max_s": PATIENCE_S},
        }
        with deployed(servers, document, twice=twice) as deployment:
            deployment.until_idle("ramp", FLOOR, within_s=PATIENCE_S)
            yield deployment, nodes


@contextmanager
def burst(deployment: Deployment) -> Iterator[list[Future[Held]]]:
    def ask(number: int) -> Held:
        claim = deployment.context.pool.claim(f"ramp-{number}", "ramp", wait_s=PATIENCE_S)
        assert isinstance(claim, Held), f"{claim}\n{deployment.told('ramp')}"
        return claim

    with ThreadPoolExecutor(TENANTS) as tenants:
        yield [tenants.submit(ask, number) for number in range(TENANTS)]


def check(deployment: Deployment, claims: list[Held]) -> None:
    assert len({claim.worker_id for claim in claims}) == TENANTS
    assert deployment.count("ramp") == FLOOR + TENANTS, "no slot was made twice"
    assert not history.double_claims(deployment.db)
    assert not history.cross_tenant(deployment.db)


@pytest.mark.timeout(300 + 4 * NODE_S)
@pytest.mark.parametrize("twice", [(), ("spawn", "control")], ids=["one control plane", "two on one database"])
def test_30_tenants_have_their_slots_in_one_tick_and_their_pods_a_nodes_time_later(
    plane: ControlPlane, servers: Servers, twice: Sequence[str]
) -> None:
    with ramping(plane, servers, twice) as (deployment, nodes):
        began = deployment.now()
        with burst(deployment) as asked:
            claims = [one.result() for one in asked]
        ticks = deployment.events("ramp", "reconcile", began)
        idle = [event["after_s"] for event in deployment.events("ramp", "worker.idle", began)]
        show("slots by tick", [(tick["after_s"], tick["detail"]["created"]) for tick in ticks])
        show("pods by second", [round(at, 1) for at in idle])
        show("nodes", len(nodes.nodes))
        check(deployment, claims)
        lost = deployment.db.rows("select id, failure from workers where state = 'lost'")
        assert lost == [], "nobody ended a worker of another's"
        assert all(tick["detail"]["created"] == tick["detail"]["deficit"] for tick in ticks)
        assert ticks[-1]["after_s"] <= 10.0, "it waited for pods"
        # Two nodes' time: the second round's, of pods that found none in the first.
        assert max(idle) <= 2 * NODE_S + BEYOND_S
        assert len(nodes.nodes) * PODS_PER_NODE >= FLOOR + TENANTS


@pytest.mark.timeout(300 + 4 * NODE_S)
def test_the_ramp_is_the_same_when_everything_is_restarted_in_its_middle(plane: ControlPlane, servers: Servers) -> None:
    if plane.folder is None:
        pytest.skip("the cluster is somebody else's: its API server is not restarted")
    with ramping(plane, servers) as (deployment, _):
        began = deployment.now()
        with burst(deployment) as asked:
            eventually(
                lambda: len(deployment.events("ramp", "worker.launched", began)) >= TENANTS // 2,
                "half of them are launched",
                within_s=PATIENCE_S,
            )
            before = deployment.stack.pids()
            for role in ROLES:
                deployment.stack.kill(role)
            plane.restart_api()
            for role in ROLES:
                deployment.stack.wait_for_pid(role, other_than=before[role], timeout_s=60)
            claims = [one.result() for one in asked]
        idle = [event["after_s"] for event in deployment.events("ramp", "worker.idle", began)]
        show("pods by second", [round(at, 1) for at in idle])
        check(deployment, claims)

        def all_agree() -> bool:
            """Those that nobody waits for may have been launched by who was killed, and are launched again."""
            unlaunched = "select id from workers where ended_at is null and handle is null"
            return deployment.agree() and not deployment.db.rows(unlaunched)

        eventually(all_agree, "rows and pods agree", within_s=PATIENCE_S)
