"""How hard a cluster is pressed: requests keep to their rate, and a thousand pods that wait are a thousand pods, not threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from config.kubernetes import KubernetesLauncher as Cluster
from tasks.launchers.base import LaunchSpec, Starting
from tasks.launchers.kubernetes import KubernetesLauncher
from tasks.launchers.kubernetes.api import Away
from tests.kubernetes.conftest import MakeLauncher
from tests.support.control_plane import ControlPlane
from tests.support.eventually import eventually
from tests.support.pods import IMAGE, on, python
from tests.support.shown import show

POOL = "pool"
AT_ONCE = 16
QPS, BURST, CREATES = 20.0, 5, 30
MANY = 1_000
LIMIT_S = 120.0
# Of a test's nodes that nobody plays: its pods wait for one.
NOWHERE = python("", pod={"image": IMAGE, **on("nowhere")})


def launched(launcher: KubernetesLauncher, many: int) -> list[Starting]:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        placements = threads.map(lambda n: launcher.launch(LaunchSpec(n, POOL, NOWHERE, "key")), range(1, many + 1))
        return [Starting(n, NOWHERE, place.handle, None) for n, place in enumerate(placements, 1)]


def test_requests_keep_to_their_rate_and_tell_how_long_they_waited(plane: ControlPlane, namespace: str) -> None:
    waited: list[float] = []
    cluster = Cluster(kubeconfig=plane.kubeconfig, namespace=namespace, qps=QPS, burst=BURST)
    launcher = KubernetesLauncher(cluster, lambda *counted: waited.append(counted[-1]))
    began = time.monotonic()
    launched(launcher, CREATES)
    took_s = time.monotonic() - began
    show(f"{CREATES} creates at {QPS:g} a second, {BURST} at once", f"{took_s:.2f} s")
    assert took_s >= (CREATES - BURST) / QPS
    assert sum(wait_s == 0 for wait_s in waited) >= BURST
    assert len(waited) == CREATES
    assert max(waited) > 0
    launcher.close()


@pytest.mark.timeout(3 * LIMIT_S)
def test_a_thousand_in_flight_wait_by_one_watch(
    make_launcher: MakeLauncher, requests: Counter[tuple[str, str]], plane: ControlPlane, namespace: str
) -> None:
    launcher = make_launcher()

    async def wait_for_all(started: list[Starting]) -> None:
        waits = [asyncio.create_task(launcher.wait_ready(one, asyncio.Event(), LIMIT_S)) for one in started]
        await asyncio.to_thread(
            eventually, lambda: len(launcher.pods.all()) == MANY, "all are in the stream", within_s=LIMIT_S
        )
        names = [thread.name for thread in threading.enumerate()]
        watching, asking = (
            sum(name.startswith(kind) for name in names) for kind in ("stoker-watch", "stoker-kubernetes")
        )
        show("threads that watch, and that make requests", (watching, asking))
        assert watching == 1  # of pods: nobody here asks for nodes
        assert asking <= Cluster().connections
        assert not any(wait.done() for wait in waits)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    began = time.monotonic()
    started = launched(launcher, MANY)
    show(f"{MANY} creates", f"{time.monotonic() - began:.1f} s")
    asyncio.run(wait_for_all(started))
    show("requests", dict(requests))
    assert requests["POST", "201"] == MANY
    # Their news came before anybody asked: but for a few, each is known by the one list or the one watch.
    assert requests.total() <= MANY + MANY // 10
    pods = f"/api/v1/namespaces/{namespace}/pods"

    def emptied() -> bool:
        with suppress(Away):  # it takes them one by one, and goes on when nobody waits for it any more
            plane.api.request("DELETE", pods, body={"gracePeriodSeconds": 0})
            return not plane.api.list_all(pods, "")[0]
        return False

    eventually(emptied, "all are deleted", within_s=LIMIT_S)
