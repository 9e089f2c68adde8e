"""The waiting room: callers are woken and do not poll; one who dies leaves nothing behind for long."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import pytest

from scheduler.core.misses import MissReason
from scheduler.errors import Refused
from scheduler.redis.connection import connect
from scheduler.redis.hints import Hints
from scheduler.store import history, sweeping, tickets
from scheduler.store.database import Database
from tasks.context import Context
from tasks.patience import Patience, end_wait
from tasks.pool import Miss
from tasks.waiting import WaitingRoom
from tests.conftest import MakeContext
from tests.support.eventually import eventually
from tests.support.fleet import MINUTE, Fleet
from tests.support.servers import Servers
from tests.support.wiretap import Wiretap

TTL_S = 2.0


@pytest.fixture
def impatient(fleet: Fleet, make_context: MakeContext) -> Context:
    """A context whose waiting callers are taken for dead soon, and whose workers bind by themselves."""
    timeouts = fleet.settings.timeouts.model_copy(update={"waiter_ttl_s": TTL_S})
    return make_context(fleet.settings.model_copy(update={"timeouts": timeouts}))


@pytest.fixture
def room(servers: Servers, tapped_db: Database) -> WaitingRoom:
    servers.flush()
    # Never closed: its thread listens for as long as the process lives.
    return WaitingRoom(tapped_db, Hints(connect(servers.redis_client_url)), ttl_s=TTL_S, at_most=60)


def take(fleet: Fleet, room: WaitingRoom, tenant: str) -> int:
    fleet.tenant(tenant)
    taken = tickets.take(fleet.db, tenant, fleet.profile(), waiter="job", wake_key=room.wake_key, ttl=MINUTE, at_most=9)
    assert taken is not None
    return taken


def test_fifty_callers_wait_with_one_statement_a_sign_of_life(
    fleet: Fleet, room: WaitingRoom, wiretap: Wiretap
) -> None:
    waiting = [take(fleet, room, f"t{number}") for number in range(50)]
    with ThreadPoolExecutor(50) as callers:
        began = time.monotonic()
        with wiretap.counting() as trips:
            results = [callers.submit(room.wait, ticket, Patience(1.6 * TTL_S)) for ticket in waiting]
            fifty_gone = sum(result.result() is None for result in results)
        periods = (time.monotonic() - began) / (TTL_S / 4)
    assert fifty_gone == 50
    # Each takes its ticket back at the end (prepared after two); all else is shared. Pollers at 100 ms would make 1,600.
    connections = 16
    assert trips[0] <= 50 + connections + periods + 3


def test_a_caller_is_woken_at_once_and_not_by_its_next_sign_of_life(
    fleet: Fleet, room: WaitingRoom, servers: Servers
) -> None:
    hints = Hints(connect(servers.redis_client_url))
    took_s: list[float] = []
    with ThreadPoolExecutor(1) as caller:
        for number in range(5):
            waiting = caller.submit(room.wait, take(fleet, room, f"t{number}"), Patience(20))
            eventually(lambda: room._waiting, "the caller sits down", within_s=5)
            (worker,) = fleet.launched(1)
            _, grant = fleet.ready(worker)
            assert grant is not None
            granted = time.monotonic()
            hints.wake([grant])
            assert waiting.result(timeout=10) is not None
            took_s.append(time.monotonic() - granted)
    hints._redis.close()
    assert min(took_s) < TTL_S / 8, took_s


def test_a_grant_that_comes_before_its_caller_sat_down_is_not_missed(
    fleet: Fleet, room: WaitingRoom, servers: Servers
) -> None:
    ticket = take(fleet, room, "acme")
    fleet.idle(1)
    hints = Hints(connect(servers.redis_client_url))
    hints.wake([tickets.Grant(ticket, room.wake_key)])
    assert room.wait(ticket, Patience(20)) is not None
    hints._redis.close()


def test_a_caller_out_of_time_that_just_won_has_won(fleet: Fleet, room: WaitingRoom) -> None:
    ticket = take(fleet, room, "acme")
    fleet.idle(1)
    assert room.wait(ticket, Patience(0)) is not None


def test_a_full_room_refuses_and_leaves_no_ticket(fleet: Fleet, servers: Servers) -> None:
    room = WaitingRoom(fleet.db, Hints(connect(servers.redis_client_url)), ttl_s=TTL_S, at_most=1)
    first, second = take(fleet, room, "acme"), take(fleet, room, "globex")
    with ThreadPoolExecutor(1) as caller:
        waiting = caller.submit(room.wait, first, Patience(20))
        eventually(lambda: room._waiting, "the first sits down", within_s=5)
        with pytest.raises(Refused, match="at most 1"):
            room.wait(second, Patience(20))
        assert fleet.db.rows("select id from tickets") == [{"id": first}]
        fleet.idle(1)
        assert waiting.result(timeout=10) is not None


def test_a_claim_waits_no_longer_than_it_said(fleet: Fleet, impatient: Context) -> None:
    began = time.monotonic()
    miss = impatient.pool.claim("acme", "echo", wait_s=0.3)
    assert isinstance(miss, Miss)
    assert miss.reason is MissReason.NO_WARM
    assert 0.3 <= time.monotonic() - began < 0.3 + TTL_S
    assert fleet.db.rows("select id from tickets") == [], "gone with the caller"


def test_a_wait_that_is_ended_from_outside_is_answered_as_at_the_end_of_its_time(
    fleet: Fleet, impatient: Context
) -> None:
    with ThreadPoolExecutor(1) as caller:
        waiting = caller.submit(impatient.pool.claim, "acme", "echo", wait_s=60, task_id="job")
        eventually(lambda: impatient.pool._room._waiting, "the caller sits down", within_s=5)
        end_wait("another")
        end_wait("job")
        answer = waiting.result(timeout=10)
    assert isinstance(answer, Miss)
    assert answer.reason is MissReason.NO_WARM
    assert fleet.db.rows("select id from tickets") == []
    end_wait("job")  # nobody of this name waits any more


def test_who_has_won_when_its_wait_is_ended_has_won(fleet: Fleet, room: WaitingRoom) -> None:
    ticket, patience = take(fleet, room, "acme"), Patience(60)
    with ThreadPoolExecutor(1) as caller:
        waiting = caller.submit(room.wait, ticket, patience)
        eventually(lambda: room._waiting, "the caller sits down", within_s=5)
        fleet.idle(1)  # is granted, and nobody tells the caller
        patience.end()
        assert waiting.result(timeout=10) is not None
    assert fleet.db.rows("select id from tickets") == []


def test_a_ticket_taken_for_dead_while_its_caller_lives_is_taken_anew(fleet: Fleet, room: WaitingRoom) -> None:
    ticket = take(fleet, room, "acme")
    tickets.give_back(fleet.db, ticket)
    # It looks, finds none, and its caller asks again: long before the deadline.
    began = time.monotonic()
    assert room.wait(ticket, Patience(20)) is None
    assert time.monotonic() - began < TTL_S


def _wait_in_a_process(url: str, redis_url: str, profile: str, waits: Connection) -> None:
    db = Database(url)
    room = WaitingRoom(db, Hints(connect(redis_url)), ttl_s=TTL_S, at_most=9)
    ticket = tickets.take(
        db, "doomed", profile, waiter="job", wake_key=room.wake_key, ttl=timedelta(seconds=TTL_S), at_most=9
    )
    assert ticket is not None
    waits.send(ticket)
    room.wait(ticket, Patience(60))
    threading.Event().wait()


@pytest.fixture
def doomed(fleet: Fleet, database_url: str, servers: Servers) -> Iterator[tuple[int, BaseProcess]]:
    """A process that waits for a worker, and its ticket."""
    servers.flush()
    fleet.tenant("doomed")
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    with ExitStack() as down:
        down.callback(ours.close)
        process = context.Process(
            target=_wait_in_a_process, args=(database_url, servers.redis_client_url, fleet.profile(), theirs)
        )
        process.start()
        theirs.close()
        down.callback(process.join)
        down.callback(process.kill)
        assert ours.poll(30)
        yield ours.recv(), process


def test_a_caller_killed_by_kill_9_is_no_demand_after_its_time_to_live(
    fleet: Fleet, doomed: tuple[int, BaseProcess]
) -> None:
    assert fleet.demand() == 1
    doomed[1].kill()
    doomed[1].join()
    eventually(lambda: fleet.demand() == 0, "the dead caller's ticket is no demand", within_s=TTL_S + 10)
    later = fleet.ticket("acme", "job")
    fleet.idle(1)
    claim = tickets.give_back(fleet.db, later)
    assert claim is not None, "the worker goes to who lives"
    assert sweeping.drop_dead_tickets(fleet.db, 9) == 1


def test_a_worker_granted_to_a_caller_that_was_killed_is_not_lost_to_others(
    fleet: Fleet, doomed: tuple[int, BaseProcess]
) -> None:
    fleet.tenant("doomed", cap=1)
    ticket, process = doomed
    process.kill()
    process.join()
    fleet.db.rows("update tickets set expires_at = clock_timestamp() + interval '1 minute' returning id")
    (worker,) = fleet.launched(1)
    _, grant = fleet.ready(worker)
    assert grant is not None, "to the dead caller, within its time to live"
    assert grant.ticket_id == ticket
    fleet.backdate("lease_until", worker, MINUTE * 60)  # the time that a binding may take
    assert sweeping.expire(fleet.db, 9).draining == [worker]
    assert not history.miscounted_tenants(fleet.db)
    assert fleet.db.row("select live from tenants where name = 'doomed'") == {"live": 0}
