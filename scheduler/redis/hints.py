"""Wake-ups for waiting callers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import redis
import structlog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduler.store.tickets import Grant

_WAKE_TTL_MS: Final = 60_000
_WAKE_MOST: Final = 4_096
_PREFIX: Final = "stoker:"

log = structlog.get_logger(__name__)


class Hints:
    """Everything Stoker itself says through Redis. A lost or failed hint is logged and costs at most a tick."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def close(self) -> None:
        """Close the connections. A later use opens new ones."""
        self._redis.close()

    @staticmethod
    def wake_key(listener: str) -> str:
        """Where one process listens for all its waiting callers."""
        return f"{_PREFIX}wake:{listener}"

    def wake(self, grants: Iterable[Grant]) -> None:
        """Tell each granted ticket's caller, by the list that its process blocks on. Lists are bounded and expire."""
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for grant in grants:
                    pipe.rpush(grant.wake_key, grant.ticket_id)
                    pipe.ltrim(grant.wake_key, -_WAKE_MOST, -1)
                    pipe.pexpire(grant.wake_key, _WAKE_TTL_MS)
                pipe.execute()
        except redis.RedisError as error:
            log.warning("wake-up lost; the caller's next sign of life finds its grant", error=str(error))

    def next_wake(self, wake_key: str, timeout_s: float) -> list[int]:
        """Block until a ticket of this process is granted, at most so long; the tickets granted.

        Raises:
            redis.RedisError: Redis did not answer; the caller falls back to its own signs of life.
        """
        found = self._redis.blmpop(timeout_s, 1, wake_key, direction="LEFT", count=_WAKE_MOST)
        return [int(ticket) for ticket in found[1]] if found else []
