"""One control plane for all tests here, and nodes of it that run pods as processes."""

from __future__ import annotations

import os
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config.kubernetes import KubernetesLauncher as Cluster
from tasks.launchers.kubernetes import KubernetesLauncher
from tests.support.control_plane import ControlPlane, is_there, running_control_plane
from tests.support.kubelet import Kubelet

MakeLauncher = Callable[..., KubernetesLauncher]


# Left out where there is nothing to test on; `make test-kubernetes` gets an error there.
collect_ignore_glob = [] if is_there() or os.environ.get("STOKER_REQUIRE") == "kubernetes" else ["test_*.py"]


# Servers go here while connections to them begin. Python 3.11 then forgets a socket that has met nobody yet
# (ssl.SSLSocket._create, where the peer is gone before the handshake): it is closed when it is collected, and says so.
FORGOTTEN = "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(FORGOTTEN))


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    with running_control_plane() as running:
        yield running


@pytest.fixture(scope="session")
def nodes(plane: ControlPlane) -> Iterator[Kubelet]:
    with Kubelet(plane.kubeconfig).running() as kubelet:
        yield kubelet


@pytest.fixture
def namespace(plane: ControlPlane) -> str:
    return plane.namespace(f"test-{uuid.uuid4().hex[:10]}")


@pytest.fixture
def requests() -> Counter[tuple[str, str]]:
    """Those of this test's launchers, by verb and the answer's status."""
    return Counter()


@pytest.fixture
def make_launcher(plane: ControlPlane, namespace: str, requests: Counter[tuple[str, str]]) -> Iterator[MakeLauncher]:
    made: list[KubernetesLauncher] = []
    counting = threading.Lock()

    def count(verb: str, status: str, _: float) -> None:
        with counting:
            requests[verb, status] += 1

    def make(kubeconfig: Path | None = None, **settings: Any) -> KubernetesLauncher:
        settings = {"namespace": namespace, "qps": 1_000.0, "burst": 1_000, **settings}
        made.append(KubernetesLauncher(Cluster(kubeconfig=kubeconfig or plane.kubeconfig, **settings), count))
        return made[-1]

    yield make
    for launcher in made:
        launcher.close()
