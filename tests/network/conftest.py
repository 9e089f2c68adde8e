"""A lab for every test that makes networks for real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from demo.lab import NODES, Lab, lab
from tasks.network.sandbox import Sandbox, sandbox, ways
from tests.support.netchild import RemoteDriver, remote

MakeDriver = Callable[[], RemoteDriver]


@pytest.fixture(scope="session")
def box() -> Iterator[Sandbox]:
    way = ways()
    if way.way is None:
        pytest.skip(f"networks cannot be made here: {way.reason}")
    with sandbox() as made:
        yield made


@pytest.fixture(scope="session")
def shared_lab(box: Sandbox) -> Iterator[Lab]:
    with lab(box) as made:
        made.add("one", "two")
        yield made


@pytest.fixture(scope="session")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("network")


@pytest.fixture(scope="session")
def drivers(shared_lab: Lab, state_dir: Path) -> Iterator[tuple[RemoteDriver, RemoteDriver]]:
    """Two processes that may make networks."""
    with ExitStack() as down:
        one, two = (down.enter_context(remote(shared_lab.box, shared_lab.config, state_dir)) for _ in range(2))
        yield one, two


@pytest.fixture
def net(shared_lab: Lab, drivers: tuple[RemoteDriver, RemoteDriver]) -> Iterator[Lab]:
    """The lab, without a network in it before and after."""
    yield shared_lab
    for node in NODES:
        for vni in (0x1A, 0x1B):
            drivers[0].delete_network(node, vni, "any")
