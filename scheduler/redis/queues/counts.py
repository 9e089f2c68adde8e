"""The queues as Redis has them at one instant: how many wait, since when, and what has been taken from them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from scheduler.redis.queues.keys import COUNTS_KEY, LATE, RESERVED, STAMP, TAKEN, counter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import redis

_STAMPED: Final = re.compile(rf'\{{"{STAMP}": ?(\d{{1,15}})\b')


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """One queue. The counters began with the hash that holds them: after a flush, at 0."""

    depth: int = 0
    oldest_s: float | None = None  # None: nothing waits, or what waits longest has no stamp
    taken: int = 0
    late: int = 0
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """All queues at one instant of Redis's clock."""

    at_s: float
    queues: Mapping[str, QueueCounts]


def sample(client: redis.Redis, queues: Sequence[str]) -> Sample:
    """Look at these queues, in one round trip.

    Raises:
        redis.RedisError: Redis did not answer.
    """
    with client.pipeline(transaction=True) as pipe:
        pipe.time()
        pipe.hgetall(COUNTS_KEY)
        for queue in queues:
            pipe.llen(queue)
            # Messages are pushed on the left and taken from the right.
            pipe.lindex(queue, -1)
        (seconds, micros), counts, *found = pipe.execute()
    now_s = seconds + micros / 1e6

    def of(queue: str, depth: int, last: str | None) -> QueueCounts:
        taken, late, reserved = (int(counts.get(counter(queue, name), 0)) for name in (TAKEN, LATE, RESERVED))
        return QueueCounts(depth, age_s(last, now_s), taken, late, reserved)

    return Sample(now_s, {q: of(q, *found[2 * i : 2 * i + 2]) for i, q in enumerate(queues)})


def age_s(message: str | None, now_s: float) -> float | None:
    """How long a message has waited, by the stamp that it begins with; None without one. A clock ahead of Redis's is now."""
    stamped = _STAMPED.match(message or "")
    return max(0.0, now_s - int(stamped[1]) / 1000) if stamped else None
