"""Headroom on a real scheduler: placeholders make way for workers at once, and bring the next node by waiting for it."""

from __future__ import annotations

import asyncio
import uuid

from tasks.launchers.base import LaunchSpec, Starting
from tests.kubernetes.conftest import MakeLauncher
from tests.support.control_plane import ControlPlane
from tests.support.eventually import eventually
from tests.support.kubelet import Kubelet
from tests.support.pods import IMAGE, LISTEN, python

NODE_S = 3.0
LIMIT_S = 60.0


def test_a_spike_finds_its_node_and_the_room_is_there_again_a_nodes_time_later(
    make_launcher: MakeLauncher, plane: ControlPlane, namespace: str
) -> None:
    name = f"headroom-{uuid.uuid4().hex[:6]}"
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    plane.create(classes, {"metadata": {"name": name}, "value": -10, "description": "makes way"})
    launcher = make_launcher(placeholder_image=IMAGE, placeholder_class=name)
    pods = f"/api/v1/namespaces/{namespace}/pods"

    def rooms(phase: str) -> int:
        found = plane.api.list_all(pods, "stoker.dev/room=spike")[0]
        return sum(pod["status"].get("phase") == phase for pod in found)

    with Kubelet(plane.kubeconfig, nodes=1, pods=3, prefix=name).running() as nodes:
        kind = python(LISTEN.format(before=""), pod={**nodes.placing, "headroom": 2})

        def keep() -> None:
            launcher.keep_room("spike", [kind])

        keep()
        eventually(lambda: rooms("Running") == 2, "the room is held", within_s=LIMIT_S)
        placements = [launcher.launch(LaunchSpec(n, "spike", kind, "key")) for n in range(3)]

        async def all_ready() -> set[str | None]:
            waits = (
                launcher.wait_ready(Starting(n, kind, place.handle, None), asyncio.Event(), LIMIT_S)
                for n, place in enumerate(placements)
            )
            return {place.node for place in await asyncio.gather(*waits)}

        # One node holds three: who came found the room of those that made way.
        assert asyncio.run(all_ready()) == {f"{name}-1"}
        assert len(nodes.nodes) == 1
        nodes.autoscale(NODE_S)

        def is_back() -> bool:
            keep()
            return rooms("Running") == 2

        eventually(is_back, "the room is held again", within_s=LIMIT_S)
        assert len(nodes.nodes) > 1

        async def all_stopped() -> None:
            await asyncio.gather(*(launcher.stop(one.handle, "spike", n, 1) for n, one in enumerate(placements)))

        asyncio.run(all_stopped())
        launcher.keep_room("spike", [python("", pod=nodes.placing)])
        eventually(lambda: rooms("Running") + rooms("Pending") == 0, "the room is given back", within_s=LIMIT_S)
