"""Messages that are put into their queue once, however many senders try: what beat sends goes this way."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from scheduler.redis.queues.keys import ONCE_KEY, SENDER_KEY, wake_key
from scheduler.redis.queues.picking import Script

if TYPE_CHECKING:
    import redis

ONCE: Final = Script.of("once.lua")
# For so long it is known of a message that it was put, and so it may be sent again without being run twice.
KNOWN_S: Final = 86_400.0


class Said(StrEnum):
    """What became of a message."""

    PUT = "put"
    FREE = "free"  # it may be sent
    KNOWN = "known"  # it was put before
    OVER = "over"  # its sender is one of the past


@dataclass(frozen=True, slots=True)
class Answer:
    """With the epoch of the sender that came later, if one did."""

    said: Said
    epoch: int = 0


class Once:
    """The script on one Redis, for senders of which the latest counts."""

    def __init__(self, client: redis.Redis, prefix: str = "") -> None:
        self._client, self._prefix = client, prefix
        self._script = client.register_script(ONCE.text)

    def ask(self, mark: str, epoch: int) -> Answer:
        """Whether this message may be sent."""
        return self._call(self._keys(mark), epoch)

    def put(self, mark: str, epoch: int, queue: str, message: str) -> Answer:
        """Put it, if it may be."""
        return self._call((*self._keys(mark), self._prefix + queue, self._prefix + wake_key(queue)), epoch, message)

    def forget(self, mark: str) -> None:
        """It is known elsewhere that it was put."""
        self._client.delete(self._keys(mark)[1])

    def _keys(self, mark: str) -> tuple[str, str]:
        return self._prefix + SENDER_KEY, self._prefix + ONCE_KEY + mark

    def _call(self, keys: tuple[str, ...], epoch: int, *message: str) -> Answer:
        reply: Any = self._script(keys=keys, args=(epoch, round(KNOWN_S * 1000), *message))
        return Answer(Said(reply[0]), *map(int, reply[1:]))
