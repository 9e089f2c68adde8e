"""How Stoker talks to Redis: with a bound on every wait."""

from __future__ import annotations

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry


def connect(url: str, timeout_s: float = 5.0, *, retry: Retry | None = None) -> redis.Redis:
    """A client with a bound on every wait: without one, a publish to a Redis that stalls blocks for ever."""
    more = {} if retry is None else {"retry": retry}
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        health_check_interval=30,
        decode_responses=True,
        **more,
    )


def at_once() -> Retry:
    """One more try, for a connection that the server closed since it was last used; then the caller is told."""
    return Retry(NoBackoff(), 1)


def patience(tries: int = 8) -> Retry:
    """How to wait for a Redis that restarts, some five seconds in all: only for commands that may run twice."""
    return Retry(ExponentialBackoff(cap=1.0, base=0.05), tries)
