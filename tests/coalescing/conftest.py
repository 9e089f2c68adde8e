"""One Valkey for the folder and one worker of each pool, shared by the tests: each has keys of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tasks.engines import EmbeddedValkey
from tests.support.coalescing_lab import Lab, lab, valkey

POOLS = ("threads", "prefork")


@pytest.fixture(scope="session")
def coalescing_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    with valkey(tmp_path_factory.mktemp("coalescing") / "state") as server:
        yield server


@pytest.fixture(scope="session")
def lab_of(coalescing_valkey: EmbeddedValkey) -> Iterator[Callable[[str], Lab]]:
    """The lab with a worker of this pool, started by who asks first."""
    with ExitStack() as down:
        labs: dict[str, Lab] = {}

        def of(pool: str) -> Lab:
            if pool not in labs:
                labs[pool] = down.enter_context(lab(coalescing_valkey, POOLS.index(pool)))
                labs[pool].until_ready(labs[pool].start(pool))
            return labs[pool]

        yield of


@pytest.fixture
def threads(lab_of: Callable[[str], Lab]) -> Iterator[Lab]:
    made = lab_of("threads")
    yield made
    made.until_nothing_is_left()


@pytest.fixture
def prefork(coalescing_valkey: EmbeddedValkey) -> Iterator[Lab]:
    """A worker of the test's own, for who kills its children: nobody else should have to work with what is left of it."""
    with lab(coalescing_valkey, len(POOLS)) as made:
        made.store.flushdb()  # who kills publishers and workers leaves things there
        made.until_ready(made.start("prefork"))
        yield made
        made.until_nothing_is_left()


@pytest.fixture(params=POOLS)
def either(request: pytest.FixtureRequest, lab_of: Callable[[str], Lab]) -> Iterator[Lab]:
    """Once with each pool."""
    made = lab_of(request.param)
    yield made
    made.until_nothing_is_left()


@pytest.fixture
def key() -> str:
    return f"key-{uuid.uuid4().hex[:12]}"
