"""The warm pool on a cluster: a whole deployment whose workers are pods, from claim to end."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tasks.draining import drain
from tasks.launchers.base import LaunchSpec
from tasks.launchers.kubernetes.pod import UNDISRUPTED, name_of
from tasks.pool import Held
from tests.stack.clients import Diary, _use
from tests.support import profiles
from tests.support.claim_times import warm_median_s
from tests.support.control_plane import ControlPlane
from tests.support.crowd import crowd
from tests.support.deployment import Deployment, deployed
from tests.support.eventually import eventually
from tests.support.kubelet import Kubelet
from tests.support.pods import IMAGE, on
from tests.support.servers import Servers
from tests.support.shown import show

FLOOR = 3
BROKEN = IMAGE.replace("0" * 64, "2" * 64)
PATIENCE_S = 60.0
NOISE_S = 0.5
NODES = "pool"
NODE_NAMES = tuple(f"{NODES}-{number}" for number in (1, 2, 3))
MANY = 9


def pods(image: str = IMAGE, **facts: Any) -> dict[str, Any]:
    return profiles.echo(kubernetes={"image": image, **on(NODES)}, cpu="10m", **facts)


@pytest.fixture(scope="module")
def own_nodes(plane: ControlPlane) -> Iterator[Kubelet]:
    with Kubelet(plane.kubeconfig, nodes=3, prefix=NODES).running() as kubelet:
        kubelet.break_image(BROKEN)
        yield kubelet


@pytest.fixture(scope="module")
def deployment(plane: ControlPlane, own_nodes: Kubelet, servers: Servers) -> Iterator[Deployment]:
    assert own_nodes.nodes
    namespace = plane.namespace(f"pool-{uuid.uuid4().hex[:10]}")
    cluster = {
        "namespace": namespace,
        "kubeconfig": str(plane.kubeconfig),
        "node_arrives_s": 5.0,
        "request_s": 2.0,
    }
    document = {
        "profiles": {
            "warm": pods(floor=FLOOR, hot_idle_s=300.0),
            "burst": pods(),
            "broken": pods(BROKEN),
            # Its pods wait for as long as a test may take.
            "huge": pods(memory="900Gi", ready_s=170.0, spawn_budget_s=190.0),
        },
        "launcher": {"kind": "kubernetes", "kubernetes": cluster},
    }
    with deployed(servers, document) as running:
        running.until_idle("warm", FLOOR, within_s=PATIENCE_S)
        yield running


def annotations(deployment: Deployment, plane: ControlPlane, worker_id: int) -> dict[str, str]:
    namespace = deployment.settings.launcher.kubernetes.namespace
    name = name_of(deployment.context.pool_id, worker_id)
    found = plane.api.request("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
    kept: dict[str, str] = found["metadata"]["annotations"]
    return kept


def held(deployment: Deployment, tenant: str, family: str, wait_s: float = PATIENCE_S) -> Held:
    claim = deployment.context.pool.claim(tenant, family, wait_s=wait_s)
    assert isinstance(claim, Held), f"{claim}\n{deployment.told(family)}"
    return claim


def release(deployment: Deployment, *claims: Held) -> None:
    for claim in claims:
        deployment.context.pool.release(claim.tenant, claim.worker_id, claim.epoch)


def workers_on(deployment: Deployment, *nodes: str) -> list[dict[str, Any]]:
    return deployment.db.rows(
        "select node, cordoned from workers where node = any(%(nodes)s) and ended_at is null", nodes=list(nodes)
    )


def test_a_tenant_uses_a_pod_and_no_autoscaler_moves_it_meanwhile(deployment: Deployment, plane: ControlPlane) -> None:
    deployment.until_idle("warm", FLOOR, within_s=PATIENCE_S)
    claim = held(deployment, "acme", "warm")
    assert (claim.origin, claim.node in NODE_NAMES) == ("warm", True)
    diary = Diary()
    _use(claim, diary)
    assert (diary.denied, diary.dead) == ([], 0)
    marked = UNDISRUPTED.items()
    eventually(
        lambda: marked <= annotations(deployment, plane, claim.worker_id).items(),
        "the pod is marked",
        within_s=PATIENCE_S,
    )
    release(deployment, claim)
    eventually(
        lambda: not marked & annotations(deployment, plane, claim.worker_id).items(),
        "the mark is off",
        within_s=PATIENCE_S,
    )


def test_a_burst_is_met_whole(deployment: Deployment) -> None:
    began = deployment.now()
    with ThreadPoolExecutor(12) as tenants:
        claims = list(tenants.map(lambda n: held(deployment, f"burst-{n}", "burst"), range(12)))
    assert len({claim.worker_id for claim in claims}) == 12
    ticks = deployment.events("burst", "reconcile", began)
    assert sum(tick["detail"]["created"] for tick in ticks) == 12
    release(deployment, *claims)


def test_an_image_that_cannot_be_pulled_backs_its_profile_off_and_no_other(deployment: Deployment) -> None:
    began = deployment.now()
    deployment.context.pool.claim("acme", "broken")
    failed = eventually(
        lambda: deployment.events("broken", "spawn.failed", began), "the spawn has failed", within_s=PATIENCE_S
    )
    assert failed[0]["detail"]["outcome"] == "image_pull"
    row = deployment.db.row(
        "select total, many from tallies where metric = 'stoker_spawn_failures' and labels ->> 'outcome' = 'image_pull'"
    )
    assert row is not None
    assert row["many"] >= 1
    failing = deployment.db.rows("select family from profiles where backoff_until > now()")
    assert [row["family"] for row in failing] == ["broken"]
    release(deployment, held(deployment, "beside", "warm"))


def test_workers_of_a_cordoned_node_are_offered_to_nobody_until_it_is_open_again(
    deployment: Deployment, own_nodes: Kubelet
) -> None:
    # Who asks and does not come back leaves more idle workers than the floor: of closed nodes, they must stand in for none.
    asked = [deployment.context.pool.claim("scout", "warm", waiter=f"{number}") for number in range(MANY)]
    got = [claim for claim in asked if isinstance(claim, Held)]
    deployment.until_idle("warm", FLOOR + MANY - len(got), within_s=PATIENCE_S)
    release(deployment, *got)
    waiting = "select id from tickets where expires_at > now()"
    eventually(lambda: not deployment.db.rows(waiting), "nobody waits any more", within_s=PATIENCE_S)
    closed = sorted({row["node"] for row in workers_on(deployment, *NODE_NAMES)})[1:]

    def offered() -> int:
        return sum(not row["cordoned"] for row in workers_on(deployment, *closed))

    for node in closed:
        own_nodes.cordon(node)
    eventually(lambda: offered() == 0, "the nodes are closed", within_s=PATIENCE_S)
    with ThreadPoolExecutor(MANY) as tenants:
        others = list(tenants.map(lambda n: held(deployment, f"away-{n}", "warm"), range(MANY)))
    assert not {*closed} & {claim.node for claim in others}
    for node in closed:
        own_nodes.cordon(node, closed=False)
    eventually(lambda: offered() > 0, "the nodes are open", within_s=PATIENCE_S)
    release(deployment, *others)


def test_a_node_that_is_taken_away_is_replaced_and_its_tenants_lease_ends(
    deployment: Deployment, own_nodes: Kubelet
) -> None:
    deployment.until_idle("warm", FLOOR, within_s=PATIENCE_S)
    claim = held(deployment, "unlucky", "warm")
    own_nodes.remove(str(claim.node))
    eventually(
        lambda: not deployment.context.pool.renew("unlucky", claim.worker_id, claim.epoch, "warm"),
        "the lease has ended",
        within_s=PATIENCE_S,
    )
    row = deployment.db.row("select state, failure from workers where id = %(id)s", id=claim.worker_id)
    assert row == {"state": "lost", "failure": "node_lost"}
    deployment.until_idle("warm", FLOOR, within_s=PATIENCE_S)
    eventually(deployment.agree, "rows and pods agree", within_s=PATIENCE_S)


def test_a_pod_that_no_row_claims_is_deleted(deployment: Deployment) -> None:
    launcher, pool_id = deployment.context.launcher, deployment.context.pool_id
    kind = deployment.settings.profiles["warm"]
    placement = launcher.launch(LaunchSpec(999_999, pool_id, kind, "key"))
    eventually(lambda: not launcher.alive(placement.handle), "the orphan is gone", within_s=PATIENCE_S)


def test_the_api_server_restarts_in_the_middle_of_a_burst_and_all_agree_in_the_end(
    deployment: Deployment, plane: ControlPlane
) -> None:
    if plane.folder is None:
        pytest.skip("the cluster is somebody else's: its API server is not restarted")
    began = deployment.now()
    with ThreadPoolExecutor(24) as tenants:
        asked = [tenants.submit(held, deployment, f"storm-{n}", "burst", 100.0) for n in range(24)]
        eventually(lambda: deployment.events("burst", "worker.launched", began), "the burst has begun", within_s=20)
        plane.restart_api()
        claims = [one.result() for one in asked]
    assert len({claim.worker_id for claim in claims}) == 24
    release(deployment, *claims)
    eventually(deployment.agree, "rows and pods agree", within_s=PATIENCE_S)


def test_claims_and_spawns_take_as_long_while_50_pods_cannot_be_scheduled(deployment: Deployment) -> None:
    deployment.until_idle("warm", FLOOR, within_s=PATIENCE_S)
    alone = warm_claim_s(deployment, "alone"), cold_claims_s(deployment, "alone")
    for number in range(50):
        deployment.context.pool.claim(f"huge-{number}", "huge")
    eventually(lambda: deployment.count("huge", "spawning") == 50, "50 wait for a node", within_s=PATIENCE_S)
    beside = warm_claim_s(deployment, "beside"), cold_claims_s(deployment, "beside")
    assert deployment.count("huge", "spawning") == 50
    for what, one, other in zip(("warm claim", "8 cold spawns"), alone, beside, strict=True):
        show(what, f"{one * 1000:.1f} ms alone, {other * 1000:.1f} ms beside: x{other / one:.2f}")
        assert other <= 2 * one + NOISE_S
    drain(deployment.context, worker=None, profile="huge", node=None, undo=False)


def warm_claim_s(deployment: Deployment, tenant: str) -> float:
    """The median of claims of a worker that is there."""
    settings = deployment.settings
    engines = {
        "database_url": settings.database_url,
        "redis_url": settings.redis_url,
        "state_dir": settings.locations.state_dir,
    }
    (median_s,) = crowd(warm_median_s, [(str(deployment.config), engines, tenant, "warm", 100)])
    return median_s


def cold_claims_s(deployment: Deployment, name: str) -> float:
    """Until the last of eight tenants holds a worker that had to be spawned: the median of five rounds."""

    def round_s(number: int) -> float:
        began = time.monotonic()
        claims = list(tenants.map(lambda n: held(deployment, f"{name}-{number}-{n}", "burst"), range(8)))
        took_s = time.monotonic() - began
        assert {claim.origin for claim in claims} == {"waited"}
        release(deployment, *claims)
        return took_s

    with ThreadPoolExecutor(8) as tenants:
        return statistics.median([round_s(number) for number in range(5)])
