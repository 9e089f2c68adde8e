"""Connections of Stoker's transport, and of kombu's own, to a Redis that is empty."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu import Connection
from kombu.transport import redis as kombu_redis

from scheduler.redis.queues import PICK
from tasks.engines import EmbeddedValkey
from tasks.transport import register
from tests.support.coalescing_lab import valkey
from tests.support.queue_lab import Lab, lab
from tests.support.servers import Servers

Connect = Callable[..., Connection]
POOLS = ("prefork", "threads", "gevent")
STAGE_DATABASE = 15
CLASSES = {
    "urgent": {"rank": 0, "bound_s": 1.0, "reserve": 0.0},
    "later": {"rank": 1, "bound_s": 5.0, "reserve": 0.25},
}


@pytest.fixture
def broker_url(servers: Servers) -> str:
    servers.flush()
    return servers.redis_client_url.replace("unix://", "redis+socket://")


@pytest.fixture
def store(servers: Servers, broker_url: str) -> Iterator[redis.Redis]:  # noqa: ARG001 - which empties it
    with redis.Redis.from_url(servers.redis_client_url, decode_responses=True) as client:
        # Unknown to the server, the first question would only be answered when it is asked again.
        client.script_load(PICK.text)
        yield client


@pytest.fixture
def connect(broker_url: str) -> Iterator[Connect]:
    """A connection of Stoker's transport. `stock=True`: of kombu's own, as somebody who knows nothing of Stoker has it."""
    register()
    with ExitStack() as down:

        def open_(*, stock: bool = False, url: str = broker_url, **options: Any) -> Connection:
            # Nothing that is looked for below may come from looking again after a while: a call has to arrive, or it fails.
            more: dict[str, Any] = {} if stock else {"queue_classes": CLASSES, "sleep_s": 60}
            made = Connection(url, transport_options={"priority_steps": [0], "sep": ":", **more, **options})
            if stock:
                made.transport_cls = kombu_redis.Transport
            return down.enter_context(made)

        yield open_


@dataclass(frozen=True)
class Broker:
    """A Redis for brokers, each a database of it, and beside them one in which tests and tasks talk."""

    server: EmbeddedValkey
    logs: Path

    @property
    def stage_url(self) -> str:
        return f"unix://{self.server.locations.valkey_socket}?db={STAGE_DATABASE}"

    def lab(self, database: int, **how: Any) -> AbstractContextManager[Lab]:
        return lab(self.server.locations.valkey_socket, database, self.stage_url, self.logs, **how)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One that is never stopped or flushed as a whole."""
    with valkey(tmp_path_factory.mktemp("broker") / "state") as server:
        yield Broker(server, tmp_path_factory.mktemp("workers"))


@pytest.fixture
def key() -> str:
    """What one test's tasks are called by."""
    return f"key-{uuid.uuid4().hex[:12]}"
