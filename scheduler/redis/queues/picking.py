"""What the `pick` script is asked and what it answers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Final, NamedTuple

from scheduler.redis.lua import constants
from scheduler.redis.queues.keys import (
    COUNTS_KEY,
    CREDIT_KEY,
    HANDED_KEY,
    POLICY_KEY,
    REFUSED_BYTES,
    REFUSED_KEY,
    REFUSED_MOST,
    STAMP,
    wake_key,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from scheduler.core.queues import QueueClass

# A wake-up that nobody comes for (the queue of a reply that was not waited for) does not stay for ever.
WAKE_MS: Final = 60_000
# Of queues that are in no class.
NO_BOUND_MS: Final = 2**53


_CALL: Final = "_call.lua"


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and the digest by which the server knows it once it has run."""

    text: str
    sha: str

    @classmethod
    def of(cls, name: str) -> Script:
        """The one in this room."""
        head = constants(
            STAMP=STAMP, REFUSED_MOST=REFUSED_MOST, REFUSED_BYTES=REFUSED_BYTES, NO_BOUND=NO_BOUND_MS, WAKE_MS=WAKE_MS
        )
        text = head + "".join(files(__package__).joinpath(part).read_text(encoding="utf-8") for part in (_CALL, name))
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


PICK: Final = Script.of("pick.lua")
PUT: Final = Script.of("put.lua")


class Picked(NamedTuple):
    """One message that was taken."""

    queue: str
    tag: str  # its delivery tag, by which it is recorded
    message: bytes


class Picking:
    """The call of `pick` for those who serve one set of queues. All but the time and the number never changes."""

    def __init__(
        self,
        queues: Sequence[str],
        classes: Mapping[str, QueueClass],  # queue -> its class; a queue without one comes after all others
        order: Sequence[str],  # the names of the classes, the best first
        *,
        held_key: str,
        index_key: str,
        prefix: str = "",
        asker: str,  # who asks: what it was given last is kept under that name
        unrecorded: Collection[str] = (),  # queues whose messages count as acknowledged when they are taken
    ) -> None:
        self.queues = tuple(queues)
        others = [queue for queue in queues if queue not in classes]
        present = {classes[queue].name: classes[queue] for queue in queues if queue in classes}
        ranked = [present[name] for name in order if name in present]
        rank = {kind.name: place for place, kind in enumerate(ranked, 1)}
        ranks = {queue: rank[classes[queue].name] for queue in queues if queue in classes}
        ranks |= {queue: place for place, queue in enumerate(others, len(ranked) + 1)}
        group = hashlib.sha1("\n".join(sorted(queues)).encode(), usedforsecurity=False).hexdigest()[:12]
        own = (held_key, index_key, POLICY_KEY, CREDIT_KEY + group, COUNTS_KEY, REFUSED_KEY, HANDED_KEY + asker)
        self.lists = tuple(prefix + queue for queue in queues)
        self.wake_keys = tuple(prefix + wake_key(queue) for queue in queues)
        self._keys = (*self.lists, *self.wake_keys, *(prefix + key for key in own))
        self._args: tuple[str | int | float, ...] = (
            len(queues),
            len(ranked) + len(others),
            *(part for queue in queues for part in (queue, ranks[queue], "0" if queue in unrecorded else "1")),
            *(part for kind in ranked for part in (kind.name, round(kind.bound_s * 1000), kind.reserve)),
            *(part for queue in others for part in (queue, NO_BOUND_MS, 0)),
        )

    def arguments(self, now_ms: int, most: int, call: int = 0) -> tuple[str | int | float, ...]:
        """What follows the digest in EVALSHA."""
        return (len(self._keys), *self._keys, *self._args, now_ms, most, call)

    def read(self, reply: Sequence[bytes]) -> tuple[list[Picked], bool]:
        """The messages that were taken, and whether some are left."""
        left, *rest = reply
        taken = [
            Picked(self.queues[int(queue) - 1], tag.decode(), message)
            for queue, tag, message in zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        ]
        return taken, bool(int(left))
