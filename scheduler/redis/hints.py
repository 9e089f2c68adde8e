"""Wake-ups for waiting callers, and the mark that keeps one reconcile a profile in the queue."""

from __future__ import annotations

from contextlib import suppress
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


def connect(url: str, timeout_s: float = 5.0) -> redis.Redis:
    """A client with a bound on every wait: without one, a publish to a Redis that stalls blocks for ever."""
    return redis.Redis.from_url(
        url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, health_check_interval=30, decode_responses=True
    )


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

    def may_request(self, what: str, ttl_s: float) -> bool:
        """Whether a request for this should be queued: False while one is queued that has not begun.

        If the queued one is lost, its mark expires. If Redis does not answer, nothing could be queued either.
        """
        try:
            return bool(self._redis.set(f"{_PREFIX}requested:{what}", 1, nx=True, px=max(1, round(ttl_s * 1000))))
        except redis.RedisError as error:
            log.warning("request dropped; the next tick does the work", what=what, error=str(error))
            return False

    def begin(self, what: str) -> None:
        """The queued request begins: what is asked from here on it may not see, so it is queued anew."""
        with suppress(redis.RedisError):
            self._redis.delete(f"{_PREFIX}requested:{what}")
