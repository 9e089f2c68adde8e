"""What comes to the queues in each situation: arrivals by a seed, the same for every way."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from bench.fairness_app import SLOTS
from config.names import BACKGROUND_QUEUE, USER_WAITING_QUEUE
from config.queues import DEFAULT_QUEUES
from scheduler.core.queues import QueueClass
from tasks.cli.simulate import SCENARIOS, Setup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.core.queue_simulation import Message

OVERLOAD: Final = "overload"
FLOOD: Final = "flood"
ZIPF: Final = "zipf"
SITUATIONS: Final = (OVERLOAD, FLOOD, ZIPF)

INTERACTIVE: Final = USER_WAITING_QUEUE
BELOW: Final = BACKGROUND_QUEUE

INTERACTIVE_LOAD: Final = 0.5
ZIPF_LOAD: Final = 0.9
TRICKLE_PER_S: Final = 5.0


@dataclass(frozen=True)
class Amounts:
    """How much comes, and for how long."""

    overload_s: float
    overload: float  # times what can be served
    flood_s: float
    flood: int  # messages, before anything else
    zipf_s: float
    bound_s: float  # of what is below the overload and of the flood; the default's would be longer than the whole bench


@dataclass(frozen=True)
class Situation:
    """Work, and the classes by whose bounds it is judged."""

    name: str
    what: str
    classes: Sequence[QueueClass]
    duration_s: float
    arrivals: Sequence[Message]  # in the order in which they come
    flood: int = 0  # messages of BELOW that are there when the first of the others comes


def situation(name: str, amounts: Amounts, capacity_per_s: float, seed: int) -> Situation:
    """One of the three, for a server that can do so many messages a second."""
    classes = [QueueClass(queue, kind.bound_s, kind.reserve) for queue, kind in DEFAULT_QUEUES.items()]
    classes.sort(key=lambda kind: DEFAULT_QUEUES[kind.name].rank)
    shortened = [replace(kind, bound_s=amounts.bound_s) if kind.name == BELOW else kind for kind in classes]

    def setup(duration_s: float, load: float) -> Setup:
        return Setup(seed, duration_s, SLOTS, SLOTS / capacity_per_s, load)

    if name == OVERLOAD:
        of = setup(amounts.overload_s, amounts.overload)
        trickle = of.regular(BELOW, TRICKLE_PER_S / capacity_per_s)
        arrivals = list(heapq.merge(of.random(INTERACTIVE, of.load), trickle, key=lambda message: message.at_s))
        what = f"{INTERACTIVE} at {of.load:g} x what can be served, above {TRICKLE_PER_S:g}/s in {BELOW}"
        return Situation(name, what, shortened, of.duration_s, arrivals)
    if name == FLOOD:
        of = setup(amounts.flood_s, INTERACTIVE_LOAD)
        what = f"{INTERACTIVE} at {of.load:g} x what can be served, beside {amounts.flood:,} at once in {BELOW}"
        return Situation(
            name, what, shortened, of.duration_s, list(of.random(INTERACTIVE, of.load)), flood=amounts.flood
        )
    assert name == ZIPF, name
    of = setup(amounts.zipf_s, ZIPF_LOAD)
    what = f"all queues at {of.load:g} x what can be served, the least urgent the busiest, the second half of it, ..."
    return Situation(name, what, classes, of.duration_s, list(SCENARIOS[ZIPF].messages(classes, of)))
