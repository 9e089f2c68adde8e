"""Which queue is served next (I30): strict priority, in which what has waited past its bound has a reserved share.

The model of `scheduler/redis/queues/pick.lua`. The rule has both of what each of the usual ones lacks one of: nothing
starves, as it does under strict priority; and a flood below delays interactive work by its reserve at most, where "older
than N goes first" and earliest deadline first let it pass whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Credit is counted in dequeues: one is spent for each that the reserve gives away. A class starts with one, so that the
# first to pass its bound goes at once; what it has not spent it keeps, and more than one only while it is overdue.
FULL_CREDIT: Final = 1.0


@dataclass(frozen=True, slots=True)
class QueueClass:
    """A class of work. `reserve` is the share of dequeues that it may take from better classes once it is overdue."""

    name: str
    bound_s: float
    reserve: float = 0.0


@dataclass(frozen=True, slots=True)
class Head:
    """The next message of a queue, and how long it has waited. The queues of a class (one for each node) share its bound."""

    queue: str
    kind: str  # the name of its class
    waited_s: float


@dataclass(frozen=True, slots=True)
class Pick:
    """The queue to take the next message from, and the credit that is left to each class."""

    queue: str
    credit: Mapping[str, float]
    reserved: bool  # it passed better work by its reserve


def pick(classes: Sequence[QueueClass], heads: Sequence[Head], credit: Mapping[str, float]) -> Pick | None:
    """Decide for one dequeue; None when all queues are empty.

    `classes` stand in order of priority, the best first. Heads of one class are served oldest first. A class that is overdue
    while a better one waits gains its reserve at each dequeue; with a whole credit it is served, the longest overdue first.
    """
    oldest: dict[str, Head] = {}
    for head in heads:
        known = oldest.get(head.kind)
        if known is None or head.waited_s > known.waited_s:
            oldest[head.kind] = head
    waiting = [kind for kind in classes if kind.name in oldest]
    if not waiting:
        return None
    best, *others = waiting
    overdue_s = {
        kind.name: oldest[kind.name].waited_s - kind.bound_s
        for kind in others
        if kind.reserve > 0 and oldest[kind.name].waited_s > kind.bound_s
    }
    if not overdue_s:
        return Pick(oldest[best.name].queue, credit, reserved=False)
    left, due = dict(credit), None
    for kind in classes:
        saved = credit.get(kind.name, FULL_CREDIT)
        if kind.name not in overdue_s:
            # What it was passed over for it makes up for while it is overdue. Kept for later, that would pass all at once.
            left[kind.name] = min(saved, FULL_CREDIT)
            continue
        left[kind.name] = saved + kind.reserve
        if left[kind.name] >= 1 and (due is None or overdue_s[kind.name] > overdue_s[due]):
            due = kind.name
    if due is None:
        return Pick(oldest[best.name].queue, left, reserved=False)
    left[due] -= 1
    return Pick(oldest[due].queue, left, reserved=True)
