"""What beat sends is put once: by the latest sender, in one step with the mark that says so."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import redis

from scheduler.redis.connection import connect
from scheduler.redis.queues.keys import ONCE_KEY, wake_key
from scheduler.redis.queues.once import KNOWN_S, Answer, Once, Said
from tests.support.servers import Servers

QUEUE = "background"


@pytest.fixture
def client(servers: Servers) -> Iterator[redis.Redis]:
    servers.flush()
    with closing(connect(servers.redis_client_url)) as opened:
        yield opened


@pytest.fixture
def once(client: redis.Redis) -> Once:
    return Once(client)


def waiting(client: redis.Redis) -> int:
    return int(client.llen(QUEUE))


def test_a_message_is_put_once_with_a_call_for_who_sleeps(once: Once, client: redis.Redis) -> None:
    assert once.ask("m", 1) == Answer(Said.FREE)
    assert once.put("m", 1, QUEUE, "text") == Answer(Said.PUT)
    assert (once.ask("m", 1), once.put("m", 1, QUEUE, "text")) == (Answer(Said.KNOWN), Answer(Said.KNOWN))
    assert (client.lrange(QUEUE, 0, -1), client.llen(wake_key(QUEUE))) == (["text"], 1)
    assert 0 < int(client.pttl(ONCE_KEY + "m")) <= KNOWN_S * 1000


def test_of_many_who_put_the_same_message_one_does(once: Once, client: redis.Redis) -> None:
    with ThreadPoolExecutor(8) as threads:
        said = list(threads.map(lambda _: once.put("m", 1, QUEUE, "text").said, range(32)))
    assert said.count(Said.PUT) == 1
    assert waiting(client) == 1


def test_a_sender_of_the_past_puts_nothing(once: Once, client: redis.Redis) -> None:
    once.put("one", 1, QUEUE, "text")
    assert once.ask("two", 3) == Answer(Said.FREE)
    assert once.put("three", 2, QUEUE, "text") == Answer(Said.OVER, 3)
    assert once.ask("three", 1) == Answer(Said.OVER, 3)
    assert once.put("three", 3, QUEUE, "text") == Answer(Said.PUT)
    assert waiting(client) == 2


def test_what_sql_knows_is_forgotten_and_a_flush_forgets_all(once: Once, client: redis.Redis) -> None:
    once.put("m", 1, QUEUE, "text")
    once.forget("m")
    assert once.ask("m", 1) == Answer(Said.FREE)
    client.flushdb()
    client.script_flush()
    assert once.put("m", 1, QUEUE, "text") == Answer(Said.PUT)


def test_a_prefix_is_before_every_key(client: redis.Redis) -> None:
    Once(client, "p:").put("m", 1, QUEUE, "text")
    assert all(key.startswith("p:") for key in client.scan_iter())
