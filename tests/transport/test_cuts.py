"""The broker goes away for a moment, or forgets: workers of every pool go on, and only a flush loses what waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import redis

from tasks.engines import EmbeddedValkey
from tests.support.coalescing_lab import valkey
from tests.support.eventually import eventually
from tests.support.queue_lab import Lab, lab
from tests.transport.conftest import POOLS, Broker


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A broker that remembers what it held when it was stopped."""
    with valkey(tmp_path_factory.mktemp("cut") / "state", durable=True) as server:
        yield server


@pytest.fixture(scope="module")
def labs(cut: EmbeddedValkey, broker: Broker) -> Iterator[dict[str, Lab]]:
    """A lab with a worker of each pool."""
    with ExitStack() as down:
        socket = cut.locations.valkey_socket
        made = {
            pool: down.enter_context(lab(socket, number, broker.stage_url, broker.logs))
            for number, pool in enumerate(POOLS)
        }
        for pool, each in made.items():
            each.start(pool)
        for each in made.values():
            each.until_ready(*each.workers)
        yield made


def busy(labs: dict[str, Lab], key: str) -> None:
    """Every slot runs a task that is held, and others wait."""
    for pool, each in labs.items():
        each.send("late", f"{key}-{pool}", *range(6), hold=True)
    for pool, each in labs.items():
        each.stage.hear("begins", f"{key}-{pool}", 2)


def until_ended(labs: dict[str, Lab], key: str, *numbers: int) -> None:
    """These end, and perhaps others; then nothing waits."""
    for pool, each in labs.items():
        each.stage.let(f"{key}-{pool}", 20)
    for pool, each in labs.items():
        said = lambda each=each, pool=pool: set(numbers) <= set(each.stage.said("ends", f"{key}-{pool}"))  # noqa: E731
        eventually(said, f"{numbers} have ended with {pool}", within_s=30)
        each.until_idle()
        assert [worker.process.poll() for worker in each.workers] == [None]


def publish(labs: dict[str, Lab], key: str, *numbers: int) -> None:
    for pool, each in labs.items():
        each.send("late", f"{key}-{pool}", *numbers)


def test_every_connection_is_cut(labs: dict[str, Lab], cut: EmbeddedValkey, key: str) -> None:
    busy(labs, key)
    with redis.Redis.from_url(cut.locations.redis_client_url) as client:
        client.execute_command("CLIENT", "KILL", "SKIPME", "yes")
    publish(labs, key, 6, 7)
    until_ended(labs, key, *range(8))
    for pool in (
        "prefork",
        "threads",
    ):  # with gevent Celery listens in a greenlet of its own, on a connection of its own
        assert labs[pool].app.control.ping(timeout=10, limit=1)


def test_the_server_forgets_its_scripts(labs: dict[str, Lab], cut: EmbeddedValkey, key: str) -> None:
    busy(labs, key)
    with redis.Redis.from_url(cut.locations.redis_client_url) as client:
        client.script_flush()
        publish(labs, key, 6, 7)
        client.script_flush()
    until_ended(labs, key, *range(8))
    for pool, each in labs.items():
        assert sorted(each.stage.said("begins", f"{key}-{pool}")) == list(range(8))


def test_all_is_flushed(labs: dict[str, Lab], cut: EmbeddedValkey, key: str) -> None:
    busy(labs, key)
    with redis.Redis.from_url(cut.locations.redis_client_url) as client:
        client.flushall()
    publish(labs, key, 6, 7)
    until_ended(labs, key, 0, 1, 6, 7)


def test_the_server_is_stopped_and_started_again(labs: dict[str, Lab], cut: EmbeddedValkey, key: str) -> None:
    busy(labs, key)
    cut.stop()
    cut.start()
    publish(labs, key, 6, 7)
    until_ended(labs, key, *range(8))
