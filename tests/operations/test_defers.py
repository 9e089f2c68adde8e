"""How often a run gave way is counted where it parks, from its message's publication to its start; and where it came from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from scheduler.redis.coalescing import BegunRun
from scheduler.redis.connection import connect
from tests.support.coalescing import TEXTS, World
from tests.support.servers import Servers


@pytest.fixture
def world(servers: Servers) -> Iterator[World]:
    with closing(connect(servers.redis_client_url)) as client, closing(World(client)) as made:
        yield made


def began(world: World, id_: str, token: str = "") -> BegunRun:
    begun = world.begin(id_, token)
    assert isinstance(begun, BegunRun), begun
    return begun


def parked_twice(world: World) -> BegunRun:
    """First behind a run of its lane, then behind one that only SQL knew of; with a copy of its message in between."""
    for id_, key in (("a", "k1"), ("b", "k2")):
        world.ask(id_, key)
    world.begin("a")
    world.begin("b")
    world.begin("b")  # a copy
    world.done("a")
    world.begin("b")
    world.protocol.behind("b", "by-b", "elsewhere", 5.0)
    world.sleep(5)
    world.protocol.done("elsewhere", "")
    return began(world, "b")


def test_each_time_that_a_run_parks_counts_once_whatever_copies_of_it_come(world: World) -> None:
    assert parked_twice(world).defers == 2
    assert began(world, "b").defers == 2, "asked again, for the answer was lost"


def test_who_gave_way_to_nobody_says_so(world: World) -> None:
    world.ask("a")
    assert (began(world, "a").defers, began(world, "a").queue) == (0, "q1")


def test_a_retry_is_a_new_message_and_counts_anew(world: World) -> None:
    parked_twice(world)
    world.again("b")
    assert began(world, "b").defers == 0


def test_a_run_that_was_lifted_came_from_the_queue_that_it_was_lifted_to(world: World) -> None:
    world.ask("a", rank=2)
    world.ask("b", rank=0)
    begun = began(world, "a")
    assert (begun.queue, [follower.id for follower in begun.followers]) == ("q0", ["b"])


@pytest.mark.parametrize(
    ("script", "old", "new", "counted"),
    [
        ("_shared", "(run.defers or 0) + (run.state == 'parked' and 0 or 1)", "run.defers", 0),
        ("_shared", "(run.state == 'parked' and 0 or 1)", "1", 3),
    ],
    ids=["not counted", "copies counted"],
)
def test_a_count_that_is_broken_is_noticed(servers: Servers, script: str, old: str, new: str, counted: int) -> None:
    assert TEXTS[script].count(old) == 1
    broken = TEXTS | {script: TEXTS[script].replace(old, new)}
    with closing(connect(servers.redis_client_url)) as client, closing(World(client, broken)) as made:
        assert parked_twice(made).defers == counted
