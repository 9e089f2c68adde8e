"""The kubernetes launcher on a real API server: the conformance suite, and what only clusters can get wrong."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.kubernetes.conftest import MakeLauncher
from tests.launchers.conformance import LauncherCase, LauncherConformance
from tests.support.kubelet import Kubelet
from tests.support.pods import POLITE, STUBBORN


@pytest.fixture
def case(make_launcher: MakeLauncher, nodes: Kubelet, namespace: str) -> Iterator[LauncherCase]:
    foreign: dict[str, str | int] = {"cluster": "another", "namespace": namespace, "pod": "stoker-1", "uid": "1"}
    assert nodes.nodes
    pool = f"pool-{uuid.uuid4()}"
    with LauncherCase(make_launcher(), make_launcher, POLITE, STUBBORN, foreign, pool).cleaning_up() as launcher_case:
        yield launcher_case


class TestConformance(LauncherConformance):
    @pytest.fixture
    def case(self, case: LauncherCase) -> LauncherCase:
        return case
