"""One list and one watch for all: what is cut is resumed, what is forgotten is listed anew, and who waits learns of it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import suppress

import pytest

from tasks.launchers.base import Exit, LaunchSpec, Placement, Starting
from tasks.launchers.kubernetes import KubernetesLauncher
from tasks.launchers.kubernetes.stream import Stream
from tests.kubernetes.conftest import MakeLauncher
from tests.support.control_plane import ControlPlane
from tests.support.eventually import eventually
from tests.support.kubelet import Kubelet
from tests.support.pods import POLITE
from tests.support.shown import show

POOL = "pool"
MANY = 30
LIMIT_S = 60.0


@pytest.fixture
def launcher(make_launcher: MakeLauncher, nodes: Kubelet) -> KubernetesLauncher:
    assert nodes.nodes
    return make_launcher()


def launched(launcher: KubernetesLauncher, many: int) -> list[Placement]:
    return [launcher.launch(LaunchSpec(n, POOL, POLITE, "key")) for n in range(1, many + 1)]


async def all_ready(launcher: KubernetesLauncher, placements: list[Placement]) -> None:
    waits = (
        launcher.wait_ready(Starting(n, POLITE, place.handle, None), asyncio.Event(), LIMIT_S)
        for n, place in enumerate(placements, 1)
    )
    await asyncio.gather(*waits)


async def all_stopped(launcher: KubernetesLauncher, placements: list[Placement], grace_s: float = 1.0) -> None:
    await asyncio.gather(*(launcher.stop(place.handle, POOL, n, grace_s) for n, place in enumerate(placements, 1)))


def cut(stream: Stream) -> None:
    with suppress(ValueError, RuntimeError, OSError):  # it has ended already, and the next one has not begun
        stream._response.shutdown()


def test_many_wait_by_one_list_and_one_watch(launcher: KubernetesLauncher, requests: Counter[tuple[str, str]]) -> None:
    async def live() -> None:
        placements = await asyncio.to_thread(launched, launcher, MANY)
        exits = [asyncio.create_task(launcher.wait_exit(place.handle)) for place in placements]
        await all_ready(launcher, placements)
        # Two watches, and what makes requests: as many as there are connections, however many wait.
        threads = [thread.name for thread in threading.enumerate()]
        assert sum(name.startswith("stoker-watch") for name in threads) == 2
        assert sum(name.startswith("stoker-kubernetes") for name in threads) <= 16
        await all_stopped(launcher, placements)
        assert {type(end) for end in await asyncio.gather(*exits)} == {Exit}

    asyncio.run(live())
    assert requests["LIST", "200"] == 2
    assert requests["POST", "201"] == MANY
    show("requests of 30 pods from create to end", dict(requests))
    # A create and a delete each; of the few more, those whose news was late were asked for.
    assert requests.total() <= 2 * MANY + 2 + 2 + MANY // 4


def test_a_watch_that_is_cut_goes_on_where_it_was(
    launcher: KubernetesLauncher, requests: Counter[tuple[str, str]]
) -> None:
    async def live() -> None:
        (placement,) = await asyncio.to_thread(launched, launcher, 1)
        await all_ready(launcher, [placement])
        gone = asyncio.create_task(launcher.wait_exit(placement.handle))
        await asyncio.to_thread(
            eventually, lambda: launcher.pods._response and launcher.nodes._response, "both watch", within_s=LIMIT_S
        )
        for _ in range(3):
            cut(launcher.pods)
            cut(launcher.nodes)
        await all_stopped(launcher, [placement])
        await gone

    asyncio.run(live())
    assert launcher.pods.listed == 1
    assert requests["LIST", "200"] == 2


def test_after_the_server_was_restarted_no_end_is_missed(launcher: KubernetesLauncher, plane: ControlPlane) -> None:
    if plane.folder is None:
        pytest.skip("the cluster is somebody else's: its API server is not restarted")

    async def live() -> None:
        placements = await asyncio.to_thread(launched, launcher, MANY)
        await all_ready(launcher, placements)
        exits = [asyncio.create_task(launcher.wait_exit(place.handle)) for place in placements]
        stops = asyncio.create_task(all_stopped(launcher, placements[:10], LIMIT_S))
        await asyncio.to_thread(plane.restart_api)
        await stops
        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(*exits[:10])
        assert not any(one.done() for one in exits[10:])
        assert {one.worker_id for one in await asyncio.to_thread(launcher.list, POOL)} == set(range(11, MANY + 1))
        await all_stopped(launcher, placements[10:])
        await asyncio.gather(*exits[10:])

    asyncio.run(live())


def test_nodes_that_the_cluster_closes_and_opens_are_told(launcher: KubernetesLauncher, nodes: Kubelet) -> None:
    closed = min(nodes.nodes)

    async def until(*, is_closed: bool) -> None:
        """A node that was not heard of for a while is closed as well, and any of them may have been."""
        seen: dict[str, bool] = {}
        while seen.get(closed) is not is_closed:
            seen = await launcher.wait_cordons(seen)

    async def live() -> None:
        async with asyncio.timeout(LIMIT_S):
            await until(is_closed=False)
            await asyncio.to_thread(nodes.cordon, closed)
            await until(is_closed=True)
            await asyncio.to_thread(nodes.cordon, closed, closed=False)
            await until(is_closed=False)

    asyncio.run(live())


def test_a_stream_that_nobody_follows_ends_and_begins_anew(make_launcher: MakeLauncher, nodes: Kubelet) -> None:
    launcher = make_launcher(watch_s=1.0)
    assert nodes.nodes
    asyncio.run(launcher.wait_cordons({}))
    eventually(lambda: launcher.nodes._thread is None, "the watch has ended", within_s=LIMIT_S)
    assert asyncio.run(launcher.wait_cordons({}))
