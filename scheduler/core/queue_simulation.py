"""What a policy of the queues does to the same work: a simulation by events, for `stoker simulate queues` and the tests.

A policy has the shape of `pick`: classes by priority, the heads of the queues that hold work, and what it remembers of the
dequeues before. Here each class has one queue. Time is in seconds from the first instant.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from scheduler.core.queues import Head, Pick, QueueClass, pick

Policy = Callable[[Sequence[QueueClass], Sequence[Head], Mapping[str, float]], Pick | None]


@dataclass(frozen=True, slots=True)
class Message:
    """Work that comes at an instant and then keeps a server for so long."""

    kind: str  # the name of its class
    at_s: float
    service_s: float


@dataclass(frozen=True, slots=True)
class Dequeue:
    """A message that a server took, and when."""

    message: Message
    start_s: float
    reserved: bool  # it passed better work by its reserve


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the messages of one class. One that is left at the end has waited until then, at least."""

    kind: QueueClass
    slack_s: float
    waits_s: tuple[float, ...]  # of all messages, the shortest first
    served: int
    reserved: int  # served before better work, by the reserve

    @property
    def count(self) -> int:
        """Messages that came."""
        return len(self.waits_s)

    @property
    def left(self) -> int:
        """Messages that were still queued at the end."""
        return self.count - self.served

    @property
    def allowed_s(self) -> float:
        """How long one may wait: the bound, and what may stand between being overdue and being served."""
        return self.kind.bound_s + self.slack_s

    @property
    def violations(self) -> float:
        """The share of the messages that waited longer than allowed."""
        return sum(wait_s > self.allowed_s for wait_s in self.waits_s) / self.count if self.waits_s else 0.0

    def wait_s(self, share: float) -> float | None:
        """How long at most this share of the messages waited, those that waited least; None when there was none."""
        return self.waits_s[max(0, math.ceil(share * self.count) - 1)] if self.waits_s else None


def strict(classes: Sequence[QueueClass], heads: Sequence[Head], memory: Mapping[str, float]) -> Pick | None:
    """Priority, and nothing else: what is below an overload waits for ever."""
    if not heads:
        return None
    ranks = {kind.name: rank for rank, kind in enumerate(classes)}
    return Pick(min(heads, key=lambda head: (ranks[head.kind], -head.waited_s)).queue, memory, reserved=False)


def oldest_first(classes: Sequence[QueueClass], heads: Sequence[Head], memory: Mapping[str, float]) -> Pick | None:
    """Whatever is past its bound, the oldest first; else priority."""
    bounds = {kind.name: kind.bound_s for kind in classes}
    overdue = [head for head in heads if head.waited_s > bounds[head.kind]]
    if not overdue:
        return strict(classes, heads, memory)
    return Pick(max(overdue, key=lambda head: head.waited_s).queue, memory, reserved=False)


def earliest_deadline(classes: Sequence[QueueClass], heads: Sequence[Head], memory: Mapping[str, float]) -> Pick | None:
    """What comes first to its bound, or passed it first."""
    if not heads:
        return None
    bounds = {kind.name: kind.bound_s for kind in classes}
    return Pick(min(heads, key=lambda head: bounds[head.kind] - head.waited_s).queue, memory, reserved=False)


def round_robin(_classes: Sequence[QueueClass], heads: Sequence[Head], memory: Mapping[str, float]) -> Pick | None:
    """Each queue in turn, as kombu does by default. It remembers the number of each queue's last turn."""
    if not heads:
        return None
    queue = min(heads, key=lambda head: memory.get(head.queue, 0)).queue
    return Pick(queue, {**memory, queue: max(memory.values(), default=0) + 1}, reserved=False)


POLICIES: Final[Mapping[str, Policy]] = {
    "strict": strict,
    "oldest_first": oldest_first,
    "earliest_deadline": earliest_deadline,
    "round_robin": round_robin,
    "reserve": pick,
}


def dequeues(
    classes: Sequence[QueueClass], messages: Sequence[Message], policy: Policy, *, servers: int, until_s: float
) -> Iterator[Dequeue]:
    """Every dequeue before `until_s`, in order. The messages stand in the order in which they come."""
    assert servers > 0, "work needs a server"
    assert all(one.at_s <= other.at_s for one, other in pairwise(messages)), "messages out of order"
    queues: dict[str, deque[Message]] = {kind.name: deque() for kind in classes}
    coming = deque(messages)
    free_s = [0.0] * servers  # a heap: when each server has done what it holds
    memory: Mapping[str, float] = {}
    while True:
        now = free_s[0]
        while coming and coming[0].at_s <= now:
            message = coming.popleft()
            queues[message.kind].append(message)
        heads = [Head(kind, kind, now - queue[0].at_s) for kind, queue in queues.items() if queue]
        picked = policy(classes, heads, memory)
        if picked is None:
            if not coming:
                return
            heapq.heapreplace(free_s, coming[0].at_s)
            continue
        if now >= until_s:
            return
        memory = picked.credit
        message = queues[picked.queue].popleft()
        yield Dequeue(message, now, picked.reserved)
        heapq.heapreplace(free_s, now + message.service_s)


def simulate(
    classes: Sequence[QueueClass], messages: Sequence[Message], policy: Policy, *, servers: int, until_s: float
) -> list[Outcome]:
    """What the policy does to the messages until that instant, by class; none comes later."""
    assert not messages or messages[-1].at_s <= until_s, "a message that comes after the end"
    waits: dict[str, list[float]] = {kind.name: [] for kind in classes}
    served, reserved = dict.fromkeys(waits, 0), dict.fromkeys(waits, 0)
    for taken in dequeues(classes, messages, policy, servers=servers, until_s=until_s):
        name = taken.message.kind
        waits[name].append(taken.start_s - taken.message.at_s)
        served[name] += 1
        reserved[name] += taken.reserved
    came: dict[str, list[float]] = {name: [] for name in waits}
    for message in messages:
        came[message.kind].append(message.at_s)
    for name, taken_s in waits.items():
        # A queue is first in, first out: what was not served is what came last.
        taken_s += [until_s - at_s for at_s in came[name][served[name] :]]
    longest_s = max((message.service_s for message in messages), default=0.0)
    return [
        Outcome(
            kind,
            slack_dequeues(kind, classes) / servers * longest_s,
            tuple(sorted(waits[kind.name])),
            served[kind.name],
            reserved[kind.name],
        )
        for kind in classes
    ]


def slack_dequeues(kind: QueueClass, classes: Sequence[QueueClass], burst: int = 1) -> float:
    """How many dequeues may pass between a message's being overdue and its being served by its reserve.

    It holds where the class's messages come no faster than its reserve of the dequeues, `burst` of them at once: the dequeue
    under way, what it takes to earn one for each of the burst, and as many as the other classes that have a reserve may take
    first with what they saved. A class without reserve has the work in hand only.
    """
    if kind.reserve <= 0:
        return 1.0
    others = [other.reserve for other in classes if other.reserve > 0 and other.name != kind.name]
    return 1 + burst / kind.reserve + len(others) / (1 - sum(others))
