"""A broker with the coalescing scripts on it, a clock to turn, and a look at everything that the scripts have written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import redis

from scheduler.redis.coalescing import Ask, Begun, Execution, Joined, Protocol, Settled
from scheduler.redis.coalescing.protocol import script_texts
from scheduler.redis.queues.keys import wake_key

LOOK_S, LEASE_S = 15, 15
FOLLOWERS_MAX = 4
QUEUES = ("q0", "q1", "q2")  # the most urgent first
HELD = "unacked_index"
TEXTS = script_texts()
HASHES = ("runs", "messages", "open", "lanes", "payloads", "following", "counts")
SETS = ("barriers", "parked", "followers", "due", "settled")


@dataclass
class Raw:
    """What stands in Redis, taken apart."""

    runs: dict[str, dict[str, Any]]
    messages: dict[str, str]
    open: dict[str, str]
    lanes: dict[str, str]
    payloads: dict[str, str]
    following: dict[str, str]
    counts: dict[str, str]
    barriers: list[str]
    parked: list[str]
    followers: list[str]
    due: dict[str, int]
    settled: dict[str, int]
    queues: dict[str, list[str]] = field(default_factory=dict)  # tags, the next one last
    tokens: set[str] = field(default_factory=set)  # queues that somebody has to wake up for
    open_ranks: dict[str, int] = field(default_factory=dict)  # by who is open

    def parked_on(self, lane: str) -> list[str]:
        return [member.split("\0")[3] for member in self.parked if member.split("\0")[0] == lane]

    def followers_of(self, leader: str) -> list[str]:
        return [member.split("\0")[2] for member in self.followers if member.split("\0")[0] == leader]


def message(id_: str, tag: str) -> str:
    return json.dumps({"headers": {"id": id_}, "properties": {"delivery_tag": tag}, "body": "x"})


def read(text: str) -> tuple[str, str]:
    """Id and tag of a message."""
    parts = json.loads(text)
    return parts["headers"]["id"], parts["properties"]["delivery_tag"]


class World:
    """One broker from its beginning."""

    def __init__(self, client: redis.Redis, texts: Mapping[str, str] = TEXTS) -> None:
        self.client, self.texts = client, texts
        self.now = 1_700_000_000_000
        self.protocol = Protocol(client, lease_s=LEASE_S, look_s=LOOK_S, followers_max=FOLLOWERS_MAX, texts=texts)
        self.protocol.now_ms = lambda: self.now
        client.flushdb()

    def close(self) -> None:
        """Close the connection that its protocol has for joins alone."""
        mine = getattr(self.protocol._join._local, "connection", None)
        if mine is not None:
            mine[1].disconnect()

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1000)

    def ask(
        self, id_: str, key: str = "k", lane: str = "L", rank: int = 1, *, barrier: bool = False, silent: bool = False
    ) -> Joined:
        """Join by this id, with its first message unless `silent`."""
        tag = "" if silent else f"<{id_}>"
        return self.protocol.join(ask_for(id_, key, lane, rank, barrier=barrier), tag and message(id_, tag), tag)

    def done(self, id_: str, token: str = "") -> Settled:
        return self.protocol.done(id_, token or f"by-{id_}")

    def again(self, id_: str, due_in_s: float = 0) -> Settled:
        tag = f"<{id_} again>"
        return self.protocol.again(id_, f"by-{id_}", message(id_, tag), tag, due_in_s)

    def renew(self, id_: str, *, lane: str = "L", by: str = "") -> bool:
        """Say that it lives; whether it is its run's still."""
        execution = Execution(id_, by or f"by-{id_}", lane)
        return self.protocol.renew([execution]) != {id_}

    def state(self, id_: str) -> str:
        return str(self.look().runs[id_]["state"])

    def queued(self, queue: str = "q1") -> list[str]:
        """Tags of a queue's messages, the next one first."""
        return [read(text)[1] for text in reversed(self.client.lrange(queue, 0, -1))]

    def nothing_is_left(self) -> None:
        """All have ended: what remains are counts, and tombstones of those of whom a copy may come."""
        raw = self.look()
        for name in (*HASHES, *SETS):
            assert not getattr(raw, name) or name in {"counts", "settled"}, name

    def take(self, queue: str) -> tuple[str, str]:
        """What a worker does first: the next message is the broker's to remember until it is acknowledged."""
        id_, tag = read(self.client.rpop(queue))
        self.client.zadd(HELD, {tag: self.now / 1000})
        return id_, tag

    def is_woken(self, queue: str = "q1") -> bool:
        """Whether a worker that waits for this queue is woken; it takes the token."""
        return bool(self.client.rpop(wake_key(queue)))

    def begin(self, id_: str, token: str = "") -> Begun:
        return self.protocol.begin(id_, token or f"by-{id_}")

    def look(self) -> Raw:
        """Everything, in one round trip."""
        with self.client.pipeline(transaction=False) as pipe:
            for name in HASHES:
                pipe.hgetall(f"{{stoker}}:{name}")
            for name in SETS:
                pipe.zrange(f"{{stoker}}:{name}", 0, -1, withscores=name in {"due", "settled"})
            for queue in QUEUES:
                pipe.lrange(queue, 0, -1)
            for queue in QUEUES:
                pipe.lrange(wake_key(queue), 0, -1)
            runs, messages, open_, lanes, payloads, following, counts, *found = pipe.execute()
        barriers, parked, followers, due, settled, *lists = found
        queues, tokens = lists[: len(QUEUES)], lists[len(QUEUES) :]
        assert all(there in ([], ["1"]) for there in tokens), "at most one token a queue"
        return Raw(
            {id_: json.loads(text) for id_, text in runs.items()},
            messages,
            {key: text[2:] for key, text in open_.items()},
            lanes,
            payloads,
            following,
            counts,
            barriers,
            parked,
            followers,
            {id_: int(at) for id_, at in due},
            {id_: int(at) for id_, at in settled},
            {queue: [read(text)[1] for text in texts] for queue, texts in zip(QUEUES, queues, strict=True)},
            {queue for queue, there in zip(QUEUES, tokens, strict=True) if there},
            {id_: int(text[:2]) for id_, text in ((text[2:], text) for text in open_.values())},
        )


def ask_for(id_: str, key: str, lane: str, rank: int, *, barrier: bool = False) -> Ask:
    return Ask(id_, key, lane, rank, QUEUES[rank], f"payload of {id_}", barrier)
