"""Pods through answers that are lost, 429s, cut watches, API restarts and nodes that are taken away: in the end all agree.

STOKER_TEST_PODS sets how many, STOKER_TEST_SEED which requests go wrong.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tasks.launchers.base import LaunchSpec, LaunchUnknown, Starting
from tests.kubernetes.conftest import MakeLauncher
from tests.support import profiles
from tests.support.api_proxy import ApiProxy
from tests.support.control_plane import ControlPlane
from tests.support.deployment import Deployment, deployed
from tests.support.eventually import eventually
from tests.support.kubelet import Kubelet
from tests.support.pods import IMAGE, POLITE
from tests.support.servers import Servers
from tests.support.shown import show

PODS = int(os.environ.get("STOKER_TEST_PODS") or 60)
SEED = int(os.environ.get("STOKER_TEST_SEED") or 1)
CHANCE = 0.1
CALM_S = 60.0 + PODS


@pytest.fixture(autouse=True)
def ours(plane: ControlPlane) -> None:
    if plane.folder is None:
        pytest.skip("the cluster is somebody else's: nothing is put before its API server")


def test_a_create_whose_answer_was_lost_is_the_same_create_when_it_is_repeated(
    plane: ControlPlane, tmp_path: Path, make_launcher: MakeLauncher, requests: Counter[tuple[str, str]]
) -> None:
    with ApiProxy(plane, tmp_path).running() as proxy:
        launcher = make_launcher(proxy.kubeconfig)
        proxy.next = ["lost", "refused"]
        placement = launcher.launch(LaunchSpec(1, "pool", POLITE, "key"))
        assert requests == {("POST", "none"): 2, ("POST", "409"): 1, ("GET", "200"): 1}
        assert [one.handle for one in launcher.list("pool")] == [placement.handle]
        asyncio.run(launcher.stop(placement.handle, "pool", 1, 0))


def test_who_is_told_to_wait_waits_as_long_as_he_is_told(
    plane: ControlPlane, tmp_path: Path, make_launcher: MakeLauncher, requests: Counter[tuple[str, str]]
) -> None:
    with ApiProxy(plane, tmp_path).running() as proxy:
        launcher = make_launcher(proxy.kubeconfig)
        proxy.next = ["busy"]
        began = time.monotonic()
        placement = launcher.launch(LaunchSpec(1, "pool", POLITE, "key"))
        assert time.monotonic() - began >= 1.0
        assert requests == {("POST", "429"): 1, ("POST", "201"): 1}
        asyncio.run(launcher.stop(placement.handle, "pool", 1, 0))


@pytest.mark.parametrize(("fault", "outcome"), [("busy", "api_throttled"), ("refused", "api_unavailable")])
def test_no_answer_in_time_is_no_failure_of_the_spawn(
    plane: ControlPlane, tmp_path: Path, make_launcher: MakeLauncher, fault: str, outcome: str
) -> None:
    with ApiProxy(plane, tmp_path).running() as proxy:
        launcher = make_launcher(proxy.kubeconfig, request_s=1.0)
        proxy.next = [fault] * 50
        with pytest.raises(LaunchUnknown) as raised:
            launcher.launch(LaunchSpec(1, "pool", POLITE, "key"))
        assert raised.value.outcome.name == outcome


@pytest.mark.parametrize("how", ["at once", "in the stream"])
def test_a_version_that_the_server_has_forgotten_is_listed_anew(
    plane: ControlPlane, tmp_path: Path, make_launcher: MakeLauncher, nodes: Kubelet, how: str
) -> None:
    with ApiProxy(plane, tmp_path).running() as proxy:
        launcher = make_launcher(proxy.kubeconfig)
        proxy.forgets = [how] * 4
        seen: dict[str, bool] = {}

        async def follow() -> None:
            """What nobody follows is not listed any more."""
            while True:
                seen.update(await launcher.wait_cordons(dict(seen)))

        def is_listed() -> bool:
            return (proxy.seen["forgot"], launcher.pods.listed + launcher.nodes.listed) == (4, 2 + 4)

        async def live() -> None:
            async with asyncio.timeout(CALM_S):
                placement = await asyncio.to_thread(launcher.launch, LaunchSpec(1, "pool", POLITE, "key"))
                await launcher.wait_ready(Starting(1, POLITE, placement.handle, None), asyncio.Event(), CALM_S)
                following = [asyncio.create_task(each) for each in (follow(), launcher.wait_exit(placement.handle))]
                await asyncio.to_thread(eventually, is_listed, "each time all is listed anew", within_s=CALM_S)
                for each in following:
                    each.cancel()
                await asyncio.gather(*following, return_exceptions=True)
                await launcher.stop(placement.handle, "pool", 1, 0)

        asyncio.run(live())
        assert seen.keys() >= nodes.nodes


@pytest.mark.timeout(300 + 4 * PODS)
def test_workers_rows_and_pods_agree_after_a_storm(plane: ControlPlane, servers: Servers, tmp_path: Path) -> None:
    print(f"STOKER_TEST_SEED={SEED}")  # noqa: T201 - shown when it fails
    name = f"storm-{uuid.uuid4().hex[:6]}"
    namespace = plane.namespace(name)
    with (
        Kubelet(plane.kubeconfig, nodes=6, prefix=name).running() as nodes,
        ApiProxy(plane, tmp_path, SEED).running() as proxy,
    ):
        pod = {"image": IMAGE, **nodes.placing}
        cluster = {"namespace": namespace, "kubeconfig": str(proxy.kubeconfig), "node_arrives_s": 5.0, "request_s": 2.0}
        document = {
            "profiles": {
                "storm": profiles.echo(floor=PODS, cpu="10m", kubernetes=pod, spawn_budget_s=80.0, ready_s=60.0)
            },
            "launcher": {"kind": "kubernetes", "kubernetes": cluster},
            "backoff": {"first_s": 0.5, "max_s": 2.0},
        }
        with deployed(servers, document) as deployment:
            over = threading.Event()
            cutting = threading.Thread(target=_cut, args=(proxy, over))
            proxy.chance = CHANCE
            cutting.start()
            try:
                for part in (0.2, 0.5, 0.8):
                    deployment.until_idle("storm", int(PODS * part), within_s=CALM_S)
                    plane.restart_api()
                    nodes.remove(min(nodes.nodes - nodes.frozen))
            finally:
                over.set()
                cutting.join()
            eventually(lambda: _is_whole(deployment), "floor, rows and pods agree", within_s=CALM_S)
            _show(deployment, proxy)
            proxy.chance = 0.0


def _cut(proxy: ApiProxy, over: threading.Event) -> None:
    while not over.wait(1.0):
        proxy.cut()


def _is_whole(deployment: Deployment) -> bool:
    states = [row["state"] for row in deployment.db.rows("select state from workers where ended_at is null")]
    return states == ["idle"] * PODS and deployment.agree()


def _show(deployment: Deployment, proxy: ApiProxy) -> None:
    eventually(deployment.context.pool.tallies.flush, "counted", within_s=5)
    counted: list[dict[str, Any]] = deployment.db.rows(
        "select labels ->> 'verb' as verb, labels ->> 'code' as code, many from tallies"
        " where metric = 'stoker_kubernetes_requests' order by 1, 2"
    )
    spawned = deployment.count("storm")
    show("faults", dict(proxy.seen))
    show("requests", [(row["verb"], row["code"], row["many"]) for row in counted])
    show("spawns", spawned)
    show("requests per spawn", round(sum(row["many"] for row in counted) / spawned, 2))
    failures = deployment.db.rows(
        "select detail ->> 'outcome' as outcome, count(*)::int as many from events where kind = 'spawn.failed' group by 1"
    )
    show("spawns that failed", {row["outcome"]: row["many"] for row in failures})
