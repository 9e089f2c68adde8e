"""What can become of a spawn on a real API server, each told apart from the others."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest

from tasks.launchers.base import (
    Exit,
    LaunchError,
    LaunchPermanent,
    LaunchSpec,
    LaunchTemporary,
    Outcome,
    Placement,
    Starting,
)
from tasks.launchers.kubernetes import KubernetesLauncher, outcomes
from tests.kubernetes.conftest import MakeLauncher
from tests.support.control_plane import ControlPlane
from tests.support.eventually import eventually
from tests.support.kubelet import Kubelet
from tests.support.pods import IMAGE, POLITE, python

READY_S = 60.0
NODE_LOST_S = 60.0
POOL = "pool"


@pytest.fixture
def launcher(make_launcher: MakeLauncher, nodes: Kubelet) -> KubernetesLauncher:
    assert nodes.nodes
    return make_launcher()


def launch(launcher: KubernetesLauncher, worker_id: int = 1, profile: object = POLITE) -> Placement:
    return launcher.launch(LaunchSpec(worker_id, POOL, profile, "key"))  # type: ignore[arg-type]


def ready(
    launcher: KubernetesLauncher, placement: Placement, profile: object = POLITE, within_s: float = READY_S
) -> Placement:
    starting = Starting(1, profile, placement.handle, None)  # type: ignore[arg-type]
    return asyncio.run(launcher.wait_ready(starting, asyncio.Event(), within_s))


def failure(launcher: KubernetesLauncher, profile: object, within_s: float = READY_S) -> LaunchError:
    """Of a spawn that is created and comes to nothing."""
    placement = launch(launcher, profile=profile)
    with pytest.raises(LaunchError) as raised:
        ready(launcher, placement, profile, within_s)
    asyncio.run(launcher.stop(placement.handle, POOL, 1, 0))
    return raised.value


def ended(launcher: KubernetesLauncher, placement: Placement, within_s: float = READY_S) -> Exit:
    async def wait() -> Exit:
        async with asyncio.timeout(within_s):
            return await launcher.wait_exit(placement.handle)

    return asyncio.run(wait())


def refusal(launcher: KubernetesLauncher, profile: object = POLITE, worker_id: int = 1) -> LaunchError:
    with pytest.raises(LaunchError) as raised:
        launch(launcher, worker_id, profile)
    return raised.value


def check(error: LaunchError, outcome: Outcome, kind: type[LaunchError]) -> None:
    assert (error.outcome, type(error)) == (outcome, kind), error


def test_a_pod_that_fits_nowhere_is_unschedulable_once_its_time_is_up(
    launcher: KubernetesLauncher, plane: ControlPlane, namespace: str
) -> None:
    profile = python("", cpu="4000")
    placement = launch(launcher, profile=profile)

    def reasons() -> list[str]:
        pod = plane.api.request("GET", f"/api/v1/namespaces/{namespace}/pods/{placement.handle['pod']}")
        return [condition.get("reason") for condition in pod["status"].get("conditions") or ()]

    eventually(lambda: "Unschedulable" in reasons(), "the scheduler has said so", within_s=60)
    with pytest.raises(LaunchError) as raised:
        ready(launcher, placement, profile, 2.0)
    check(raised.value, outcomes.UNSCHEDULABLE, LaunchTemporary)
    asyncio.run(launcher.stop(placement.handle, POOL, 1, 0))


def test_an_image_that_cannot_be_pulled_ends_the_spawn_before_its_time(
    launcher: KubernetesLauncher, nodes: Kubelet
) -> None:
    image = IMAGE.replace("0" * 64, "1" * 64)
    nodes.break_image(image)
    check(failure(launcher, python("", pod={"image": image})), outcomes.IMAGE_PULL, LaunchTemporary)


def test_a_worker_that_dies_before_it_is_ready_is_not_started_again(launcher: KubernetesLauncher) -> None:
    profile = python("raise SystemExit(3)")
    placement = launch(launcher, profile=profile)
    assert ended(launcher, placement) == Exit(3, outcomes.CRASHED)
    # Whoever learns of the end takes the body away.
    assert launcher.list(POOL) == []


def test_a_quota_is_no_want_of_rights(launcher: KubernetesLauncher, plane: ControlPlane, namespace: str) -> None:
    quotas = f"/api/v1/namespaces/{namespace}/resourcequotas"
    plane.create(quotas, {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}}})
    eventually(
        lambda: plane.api.request("GET", f"{quotas}/q").get("status", {}).get("hard"), "the quota counts", within_s=20
    )
    first = launch(launcher)
    check(refusal(launcher, worker_id=2), outcomes.QUOTA, LaunchTemporary)
    asyncio.run(launcher.stop(first.handle, POOL, 1, 0))


def test_a_want_of_rights_is_no_quota(
    make_launcher: MakeLauncher, plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    plane.create(accounts, {"metadata": {"name": "nobody"}})
    token = plane.create(f"{accounts}/nobody/token", {"spec": {"audiences": []}})["status"]["token"]
    launcher = make_launcher(plane.kubeconfig_of(token, tmp_path / "nobody"))
    check(refusal(launcher), outcomes.FORBIDDEN, LaunchPermanent)


def test_a_document_that_the_server_refuses_is_the_profiles_fault(launcher: KubernetesLauncher) -> None:
    check(refusal(launcher, python("", pod={"node_selector": {"no label": "x"}})), outcomes.INVALID, LaunchPermanent)


def test_a_namespace_that_is_not_there_is_named(make_launcher: MakeLauncher) -> None:
    error = refusal(make_launcher(namespace="nowhere"))
    check(error, outcomes.NO_NAMESPACE, LaunchPermanent)
    assert "nowhere" in str(error)


def test_a_pod_that_an_earlier_try_created_is_adopted(launcher: KubernetesLauncher) -> None:
    first = launch(launcher)
    assert launch(launcher).handle == first.handle
    assert len(launcher.list(POOL)) == 1
    asyncio.run(launcher.stop(first.handle, POOL, 1, 0))


def test_a_pod_of_that_name_without_our_mark_is_left_alone(
    launcher: KubernetesLauncher, make_launcher: MakeLauncher
) -> None:
    # Marked under another prefix: to this launcher, a stranger's.
    theirs = launch(make_launcher(label_prefix="example.org"))
    check(refusal(launcher), outcomes.NAME_TAKEN, LaunchPermanent)
    assert launcher.find(POOL, 1) is None
    assert launcher.alive(theirs.handle)
    asyncio.run(launcher.stop(theirs.handle, POOL, 1, 0))


def test_a_pod_that_its_node_evicts_is_no_fault_of_the_profiles(
    launcher: KubernetesLauncher, nodes: Kubelet, namespace: str
) -> None:
    placement = ready(launcher, launch(launcher))
    nodes.evict(namespace, str(placement.handle["pod"]))
    assert ended(launcher, placement).outcome is outcomes.EVICTED


def test_a_pod_that_somebody_deletes_is_gone(launcher: KubernetesLauncher, plane: ControlPlane, namespace: str) -> None:
    placement = ready(launcher, launch(launcher))
    plane.api.request("DELETE", f"/api/v1/namespaces/{namespace}/pods/{placement.handle['pod']}")
    assert ended(launcher, placement).outcome is outcomes.DELETED


@pytest.mark.parametrize("how", ["taken away", "silent"])
def test_a_node_that_is_gone_takes_its_workers_with_it(
    launcher: KubernetesLauncher, plane: ControlPlane, how: str
) -> None:
    prefix = f"doomed-{uuid.uuid4().hex[:6]}"
    with Kubelet(plane.kubeconfig, nodes=1, prefix=prefix).running() as doomed:
        profile = python(POLITE.command[-1], pod={**doomed.placing, "unreachable_s": 0})
        placement = ready(launcher, launch(launcher, profile=profile), profile)
        (doomed.remove if how == "taken away" else doomed.freeze)(f"{prefix}-1")
        assert ended(launcher, placement, NODE_LOST_S).outcome is outcomes.NODE_LOST
        assert not launcher.alive(placement.handle)
