"""The script that takes messages does what its model decides, and records what it takes in the same step."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import redis
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from config.names import class_of
from scheduler.core.queues import Head, QueueClass, pick
from scheduler.redis.queues import PICK, PUT, WAKE_MS, Picked, Picking
from scheduler.redis.queues.keys import (
    COUNTS_KEY,
    LATE,
    POLICY_KEY,
    REFUSED_KEY,
    RESERVED,
    STAMP,
    TAKEN,
    counter,
    policy_text,
    wake_key,
)
from tests.support.servers import Servers

NOW = 1_000_000
HELD, INDEX = "unacked", "unacked_index"
ORDER = ("first", "second", "third", "fourth")


@dataclass(frozen=True)
class State:
    """What a dequeue decides on. A message is its age in ms; the next one to be taken stands last."""

    lists: Mapping[str, Sequence[int]]
    classes: Mapping[str, QueueClass]
    changed: Mapping[str, QueueClass] = field(default_factory=dict)
    credit: Mapping[str, float] = field(default_factory=dict)
    most: int = 8


@st.composite
def states(draw: st.DrawFn) -> State:
    names = draw(st.lists(st.sampled_from(ORDER), min_size=1, unique=True))
    reserves = st.sampled_from((0.0, 0.1, 0.25, 0.3))
    kinds = st.builds(QueueClass, st.just(""), st.sampled_from((0.1, 1.0, 5.0)), reserves)
    classes = {name: replace(draw(kinds), name=name) for name in names}
    changed = {name: replace(draw(kinds), name=name) for name in draw(st.lists(st.sampled_from(names), unique=True))}
    ages = st.lists(st.integers(0, 8_000), max_size=6)
    queues = draw(
        st.lists(st.sampled_from([f"{name}{node}" for name in names for node in ("", "@n1", "@n2")]), unique=True)
    )
    return State(
        {queue: draw(ages) for queue in queues or names[:1]},
        classes,
        changed,
        {
            name: draw(st.sampled_from((0.0, 0.4, 0.75, 0.9, 1.0, 1.7)))
            for name in draw(st.sets(st.sampled_from(names)))
        },
        draw(st.integers(1, 8)),
    )


def message(tag: str, age_ms: int | None, **more: Any) -> str:
    stamp = {} if age_ms is None else {STAMP: NOW - age_ms}
    return json.dumps({**stamp, "body": "e30=", "headers": {}, "properties": {"delivery_tag": tag}, **more})


class World:
    """The script on a Redis, with what it finds and leaves there."""

    def __init__(self, client: redis.Redis, text: str = PICK.text) -> None:
        self.redis, self.text = client, text
        client.flushdb()

    def fill(self, state: State) -> Picking:
        for queue, ages in state.lists.items():
            for number, age in enumerate(ages):
                self.redis.rpush(queue, message(f"{queue}/{number}", age))
        if state.changed:
            self.redis.hset(
                POLICY_KEY,
                mapping={name: policy_text(kind.bound_s, kind.reserve) for name, kind in state.changed.items()},
            )
        picking = self.picking(list(state.lists), state.classes)
        if state.credit:
            self.redis.hset(self.credit_key(picking), mapping={name: repr(left) for name, left in state.credit.items()})
        return picking

    def picking(self, queues: Sequence[str], classes: Mapping[str, QueueClass], **more: Any) -> Picking:
        own = {queue: classes[class_of(queue)] for queue in queues if class_of(queue) in classes}
        return Picking(queues, own, ORDER, held_key=HELD, index_key=INDEX, asker="me", **more)

    def credit_key(self, picking: Picking) -> str:
        return str(picking.arguments(0, 0)[2 * len(picking.queues) + 4])

    def take(self, picking: Picking, most: int = 8, now: int = NOW) -> tuple[list[Picked], bool]:
        reply: Any = self.redis.eval(self.text, *picking.arguments(now, most))  # type: ignore[arg-type]
        return picking.read(reply)

    def tags(self, picking: Picking, most: int = 8) -> list[str]:
        return [one.tag for one in self.take(picking, most)[0]]


@pytest.fixture(scope="module")
def client(servers: Servers) -> Iterator[redis.Redis]:
    # As kombu reads it: bytes.
    with closing(redis.Redis.from_url(servers.redis_client_url)) as opened:
        yield opened


@pytest.fixture
def world(client: redis.Redis) -> World:
    return World(client)


def expected(state: State) -> tuple[list[str], dict[str, float], dict[str, int]]:
    """What the model takes from there, one after the other; the credit then, and what is counted."""
    lists = {queue: list(ages) for queue, ages in state.lists.items()}
    kinds = {**state.classes, **state.changed}
    present = {class_of(queue) for queue in lists}
    order = [kinds[name] for name in ORDER if name in present]
    credit, tags, counts = dict(state.credit), [], {}
    for _ in range(state.most):
        heads = [Head(queue, class_of(queue), ages[-1] / 1000) for queue, ages in lists.items() if ages]
        chosen = pick(order, heads, credit)
        if chosen is None:
            break
        credit = dict(chosen.credit)
        age = lists[chosen.queue].pop()
        tags.append(f"{chosen.queue}/{len(lists[chosen.queue])}")
        found = {TAKEN: True, RESERVED: chosen.reserved, LATE: age / 1000 > kinds[class_of(chosen.queue)].bound_s}
        for what in (what for what, so in found.items() if so):
            counts[counter(chosen.queue, what)] = counts.get(counter(chosen.queue, what), 0) + 1
    return tags, credit, counts


def follow(world: World, state: State) -> None:
    client = world.redis
    picking = world.fill(state)
    taken, more = world.take(picking, state.most)
    tags, credit, counts = expected(state)
    assert [one.tag for one in taken] == tags
    assert more == (len(tags) < sum(map(len, state.lists.values())))
    left: Any = client.hgetall(world.credit_key(picking))
    assert {name: credit.get(name, 1.0) for name in map(bytes.decode, left)} == {
        k.decode(): float(v) for k, v in left.items()
    }
    if any(credit.get(name, 1.0) != state.credit.get(name, 1.0) for name in state.classes):
        assert left
    assert {field.decode(): int(n) for field, n in client.hgetall(COUNTS_KEY).items()} == counts  # type: ignore[union-attr]
    # What was taken is recorded, and nothing else: as kombu reads it, by tag, with the way back to its queue.
    held: Any = client.hgetall(HELD)
    assert set(held) == {tag.encode() for tag in tags} == set(client.zrange(INDEX, 0, -1))  # type: ignore[arg-type]
    for one in taken:
        assert json.loads(held[one.tag.encode()]) == [json.loads(one.message), "", one.queue]
    # Of each queue with something left, somebody who sleeps is told once.
    for queue, ages in state.lists.items():
        rest = len(ages) - sum(one.queue == queue for one in taken)
        assert client.llen(queue) == rest
        assert client.llen(wake_key(queue)) == (rest > 0)


@settings(max_examples=300, deadline=None)
@given(state=states())
def test_the_script_takes_what_its_model_takes(client: redis.Redis, state: State) -> None:
    follow(World(client), state)


CLASSES = {name: QueueClass(name, 1.0, 0.25) for name in ORDER}


def test_what_is_taken_without_acknowledgement_is_not_recorded(world: World) -> None:
    world.fill(State({"first": [1], "second": [2]}, CLASSES))
    picking = world.picking(["first", "second"], CLASSES, unrecorded=["second"])
    assert world.tags(picking) == ["first/0", "second/0"]
    assert world.redis.hkeys(HELD) == [b"first/0"]


def test_a_message_without_a_stamp_ages_from_when_its_queue_was_seen(world: World) -> None:
    picking = world.picking(["first", "second"], CLASSES)
    world.redis.rpush("second", message("b", None), message("a", None))
    world.redis.rpush("first", *(message(f"f{n}", 0) for n in range(6)))
    assert [one.tag for one in world.take(picking, 2)[0]] == ["f5", "f4"]
    assert [one.tag for one in world.take(picking, 2, NOW + 1_001)[0]] == ["a", "f3"]
    world.take(picking, 8, NOW + 1_002)
    assert world.redis.hget(COUNTS_KEY, "second unstamped") is None


def test_what_nobody_could_acknowledge_is_set_aside(world: World) -> None:
    picking = world.picking(["first"], CLASSES)
    world.redis.rpush("first", message("good", 5), "rubbish", '{"properties": {}}')
    assert world.tags(picking) == ["good"]
    assert world.redis.lrange(REFUSED_KEY, 0, -1) == [b"rubbish", b'{"properties": {}}']
    assert world.redis.hget(COUNTS_KEY, "first refused") == b"2"


def test_the_last_delivery_tag_in_a_message_is_its_own(world: World) -> None:
    text = json.dumps({"headers": {"delivery_tag": "of a header"}, "properties": {"delivery_tag": "own"}})
    world.redis.rpush("first", text, text.replace(": ", ":"))
    assert world.tags(world.picking(["first"], CLASSES)) == ["own", "own"]


def test_a_policy_that_somebody_broke_by_hand_changes_nothing(world: World) -> None:
    picking = world.fill(State({"first": [1, 1], "second": [9_000, 9_000]}, CLASSES))
    world.redis.hset(POLICY_KEY, mapping={"second": "soon", "first": "1 2 3"})
    assert world.tags(picking, 1) == ["second/1"]


def test_queues_of_no_class_come_last(world: World) -> None:
    picking = world.fill(State({"reply": [9_000, 1], "second": [1]}, CLASSES))
    assert world.tags(picking) == ["second/0", "reply/1", "reply/0"]


def test_a_prefix_is_on_every_key(world: World) -> None:
    picking = world.picking(["first"], CLASSES, prefix="here:")
    world.redis.rpush("here:first", message("a", 2), message("b", 2_000))
    assert world.tags(picking, 1) == ["b"]
    assert [key for key in world.redis.keys("*") if not key.startswith(b"here:")] == []  # type: ignore[union-attr]
    assert json.loads(world.redis.hget("here:unacked", "b") or "")[1:] == ["", "first"]


def test_putting_calls_one_sleeper_and_no_more(world: World) -> None:
    for number in range(3):
        world.redis.eval(PUT.text, 2, "first", wake_key("first"), f"m{number}")  # type: ignore[arg-type]
    assert world.redis.lrange("first", 0, -1) == [b"m2", b"m1", b"m0"]
    assert world.redis.llen(wake_key("first")) == 1
    assert 0 < int(world.redis.pttl(wake_key("first"))) <= WAKE_MS  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("redis.call('HSET', HELD, unpack(held))", ""),
        ("redis.call('ZADD', INDEX, unpack(index))", ""),
        ("credit[due] = credit[due] - 1", "credit[due] = credit[due]"),
        ("credit[class] >= 1", "true"),
        ("overdue_ms > 0 and", ""),
        ("and reserve[class] > 0", ""),
        ("overdue[class] > overdue[due]", "overdue[class] < overdue[due]"),
        ("math.min(credit[class], 1)", "credit[class]"),
        ("waited[queue] > waited[first]", "waited[queue] < waited[first]"),
        ("credit[class] + reserve[class]", "credit[class]"),
        ("return due or best", "return best"),
        ("tonumber(left or 1)", "tonumber(left or 0)"),
        (
            "for class, text in ipairs(redis.call('HMGET', POLICY, unpack(names))) do",
            "for class, text in ipairs({}) do",
        ),
        ("if redis.call('EXISTS', wake) == 0 then", "if false then"),
        ("redis.call('HSET', CREDIT, unpack(left))", ""),
        ("reply[1] = 1", ""),
        ("while taken < most do", "while taken < most + 1 do"),
        ("waited[queue] > bound[class]", "waited[queue] >= 0"),
    ],
)
def test_a_broken_script_is_noticed(client: redis.Redis, old: str, new: str) -> None:
    assert PICK.text.count(old) == 1

    # Not made smaller: that it is noticed is all that is asked.
    @settings(max_examples=2_000, deadline=None, phases=[Phase.generate], database=None)
    @given(state=states())
    def play(state: State) -> None:
        follow(World(client, PICK.text.replace(old, new)), state)

    with pytest.raises(AssertionError):
        play()
