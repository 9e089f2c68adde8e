"""Redis only hurries: what it loses is late, never lost, and what it says twice is done once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from config.locations import Locations
from scheduler.core.misses import MissReason
from scheduler.redis.coalescing import Verdict
from scheduler.redis.connection import connect
from scheduler.redis.hints import Hints
from scheduler.store import tickets
from scheduler.store.tickets import Grant
from tasks import reconcile
from tasks.coalescing.coalescer import coalescer_of
from tasks.context import Context
from tasks.engines import EmbeddedValkey, wipe
from tasks.engines.folders import make_home
from tasks.patience import Patience
from tests.conftest import MakeContext
from tests.support.fleet import MINUTE, Fleet
from tests.support.servers import Servers

NOBODY = "unix:///nonexistent/redis.sock"
KEY = Hints.wake_key("somebody")


@pytest.fixture
def hints(servers: Servers) -> Iterator[Hints]:
    servers.flush()
    client = connect(servers.redis_client_url)
    yield Hints(client)
    client.close()


def test_a_wake_up_reaches_the_process_that_listens(hints: Hints) -> None:
    hints.wake([Grant(1, KEY), Grant(2, "stoker:wake:another"), Grant(3, KEY)])
    assert hints.next_wake(KEY, 1.0) == [1, 3]
    assert hints.next_wake(KEY, 0.05) == []


def test_wake_ups_for_nobody_are_bounded_and_expire(hints: Hints) -> None:
    for _ in range(3):
        hints.wake(Grant(number, KEY) for number in range(3_000))
    assert hints._redis.llen(KEY) <= 4_096
    assert 0 < int(hints._redis.pttl(KEY)) <= 60_000


def test_a_redis_that_is_gone_stops_nobody() -> None:
    hints = Hints(connect(NOBODY, timeout_s=0.2))
    hints.wake([Grant(1, KEY)])
    with pytest.raises(redis.RedisError):
        hints.next_wake(KEY, 0.05)


def test_a_thousand_misses_send_one_reconcile(fleet: Fleet, context: Context) -> None:
    for number in range(300):
        context.pool.claim("acme", "echo", waiter=str(number))
    assert context.hints._redis.llen("control") == 1
    assert fleet.demand() == 300
    message = json.loads(context.hints._redis.lindex("control", 0))
    assert coalescer_of(context.app).protocol.begin(message["headers"]["id"], "a worker's").verdict is Verdict.RUN
    context.pool.claim("acme", "echo", waiter="late")
    assert context.hints._redis.llen("control") == 2, "what is asked after it began, it may not see"


def test_a_flush_loses_no_demand(fleet: Fleet, context: Context, servers: Servers) -> None:
    context.pool.claim("acme", "echo")
    servers.flush()
    # The tick reads the truth, whatever became of the request.
    assert reconcile.run(context)[fleet.profile()] == 3


def test_a_grant_whose_wake_up_was_flushed_away_is_found_by_a_sign_of_life(
    fleet: Fleet, make_context: MakeContext
) -> None:
    timeouts = fleet.settings.timeouts.model_copy(update={"waiter_ttl_s": 2.0})
    context = make_context(fleet.settings.model_copy(update={"timeouts": timeouts}))
    with ThreadPoolExecutor(1) as caller:
        waiting = caller.submit(context.pool._room.wait, fleet.ticket("acme", "job"), Patience(20.0))
        fleet.idle(1)
        tickets.grant(fleet.db, fleet.profile(), lease=MINUTE, at_most=1)  # and nobody says so
        claim = waiting.result(timeout=10)
    assert claim is not None


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A Redis that may be stopped."""
    locations = Locations.under(tmp_path / "state")
    with ExitStack() as down:
        down.callback(wipe, locations)
        make_home(locations)
        server = EmbeddedValkey(locations, durable=False)
        down.callback(server.stop)
        server.start()
        yield server


def test_a_redis_stopped_in_mid_wait_makes_the_claim_late_and_not_lost(
    fleet: Fleet, make_context: MakeContext, own_redis: EmbeddedValkey
) -> None:
    timeouts = fleet.settings.timeouts.model_copy(update={"waiter_ttl_s": 4.0})
    settings = fleet.settings.model_copy(update={"timeouts": timeouts, "wake_ups": True})
    context = make_context(settings)
    client = connect(own_redis.locations.redis_client_url, timeout_s=0.5)
    context.hints._redis = client
    context.pool._room._hints = context.hints
    with ThreadPoolExecutor(1) as caller:
        waiting = caller.submit(context.pool._room.wait, fleet.ticket("acme", "job"), Patience(30.0))
        own_redis.stop()  # before the first sign of life: until then the ticket lives for a minute
        fleet.idle(1)
        context.pool.offer([fleet.profile()])
        assert waiting.result(timeout=25) is not None


def test_a_miss_with_redis_gone_still_says_its_reason_and_is_demand(fleet: Fleet, make_context: MakeContext) -> None:
    context = make_context(fleet.settings)
    gone = connect(NOBODY, timeout_s=0.2)
    context.hints._redis = gone
    miss = context.pool.claim("acme", "echo")
    assert miss.as_json()["reason"] is MissReason.NO_WARM
    assert fleet.demand() == 1


def test_switched_off_wake_ups_send_nothing(fleet: Fleet, make_context: MakeContext) -> None:
    context = make_context(fleet.settings.model_copy(update={"wake_ups": False}))
    context.pool.claim("acme", "echo")
    context.pool.wake([Grant(1, KEY)])
    assert context.hints._redis.dbsize() == 0
