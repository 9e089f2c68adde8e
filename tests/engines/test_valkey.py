"""The embedded Valkey, and what Stoker asks of any Redis."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu import Connection

from config.locations import Locations
from scheduler.errors import Permanent
from tasks.engines import EmbeddedValkey, Engines, check_redis
from tasks.engines.identity import ProcessIdentity

WAIT_S = 10.0


@contextmanager
def client(locations: Locations) -> Iterator[redis.Redis]:
    with closing(redis.Redis.from_url(locations.redis_client_url, decode_responses=True)) as connected:
        yield connected


def process_of(locations: Locations) -> ProcessIdentity:
    found = ProcessIdentity.read(EmbeddedValkey(locations).record)
    assert found is not None
    return found


def test_starts_answers_and_stops_in_a_path_with_spaces(locations: Locations) -> None:
    assert " " in str(locations.valkey_socket)
    server = EmbeddedValkey(locations)
    assert server.start() is True
    assert server.running()
    assert locations.valkey_socket.stat().st_mode & 0o777 == 0o700
    with client(locations) as connected:
        check_redis(connected)
        assert connected.config_get("port") == {"port": "0"}
        assert connected.config_get("appendonly") == {"appendonly": "yes"}
        assert connected.config_get("save") == {"save": ""}
    process = process_of(locations)
    server.stop()
    server.stop()
    assert not server.running()
    assert not process.alive()


def test_celery_reaches_it_by_its_url(locations: Locations) -> None:
    with Engines("postgresql://elsewhere", None, locations) as engines:
        with Connection(engines.redis_url) as connection, closing(connection.SimpleQueue("q")) as queue:
            queue.put({"n": 1})
            message = queue.get(timeout=WAIT_S)
            message.ack()
        assert message.payload == {"n": 1}


def test_the_socket_moves_when_the_path_is_too_long(
    open_folder: Path, locations_under: Callable[[Path], Locations]
) -> None:
    locations = locations_under(open_folder / ("long" * 30))
    EmbeddedValkey(locations).start()
    assert locations.valkey_socket.parent.stat().st_uid == os.geteuid()
    with client(locations) as connected:
        assert connected.ping()


def test_a_second_process_attaches(locations: Locations, starter: Callable[..., Any]) -> None:
    first = starter(EmbeddedValkey(locations, durable=False))
    assert first.answer() is True
    here = EmbeddedValkey(locations)
    assert here.start() is False
    here.stop()
    assert not here.running()


def test_of_two_concurrent_starters_one_starts(locations: Locations, starter: Callable[..., Any]) -> None:
    both = [starter(EmbeddedValkey(locations, durable=False)) for _ in range(2)]
    assert sorted(one.answer() for one in both) == [False, True]


def test_kill_9_of_the_starter_leaves_no_engine(locations: Locations, starter: Callable[..., Any]) -> None:
    first = starter(EmbeddedValkey(locations, durable=False))
    assert first.answer() is True
    process = process_of(locations)
    first.kill()
    assert process.wait(WAIT_S)
    assert EmbeddedValkey(locations).start() is True


def test_one_that_outlives_its_starter_can_be_stopped(locations: Locations) -> None:
    EmbeddedValkey(locations, die_with_parent=False).start()
    EmbeddedValkey(locations).stop()
    assert not EmbeddedValkey(locations).running()


def test_kill_9_of_the_server_keeps_what_was_written(locations: Locations) -> None:
    server = EmbeddedValkey(locations)
    server.start()
    with client(locations) as connected:
        connected.set("kept", "42")
    process_of(locations).signal(signal.SIGKILL)
    assert process_of(locations).wait(WAIT_S)
    assert server.start() is True
    with client(locations) as connected:
        assert connected.get("kept") == "42"


def test_an_evicting_policy_is_refused(locations: Locations) -> None:
    EmbeddedValkey(locations).start()
    with client(locations) as connected:
        connected.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(Permanent, match=r"got allkeys-lru; CONFIG SET maxmemory-policy noeviction"):
            check_redis(connected)


@pytest.mark.parametrize(
    ("versions", "verdict"),
    [
        ({"redis_version": "6.2.14"}, "got Redis 6.2.14"),
        ({"redis_version": "7.2.4", "valkey_version": "7.2.9"}, "got Valkey 7.2.9"),
        ({"redis_version": "7.0.0"}, None),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, None),
    ],
)
def test_an_old_server_is_refused(versions: dict[str, str], verdict: str | None) -> None:
    class Answering:
        def info(self) -> dict[str, str]:
            return {**versions, "maxmemory_policy": "noeviction"}

    server: Any = Answering()
    if verdict is None:
        check_redis(server)
    else:
        with pytest.raises(Permanent, match=verdict):
            check_redis(server)
