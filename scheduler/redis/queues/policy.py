"""What operators have changed of the queues, where workers read it at each fetch: a copy of what SQL says."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from scheduler.redis.queues.keys import POLICY_KEY, policy_text
from scheduler.store import queues

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis

    from scheduler.store.database import Database
    from scheduler.store.queues import Policy


def publish(db: Database, client: redis.Redis) -> bool:
    """Make the copy what SQL says; False when it was so already.

    Raises:
        Temporary: PostgreSQL did not answer.
        redis.RedisError: Redis did not answer; the sweep does it then.
    """
    return queues.held(db, lambda policies: write(client, policies))


def write(client: redis.Redis, policies: Iterable[Policy]) -> bool:
    """Make the copy that of these policies, in one step; False when it was so already."""
    wanted, found = texts(policies), read(client)
    if found == wanted:
        return False
    with client.pipeline(transaction=True) as pipe:
        if gone := found.keys() - wanted.keys():
            pipe.hdel(POLICY_KEY, *gone)
        if wanted:
            pipe.hset(POLICY_KEY, items=[part for item in wanted.items() for part in item])
        pipe.execute()
    return True


def read(client: redis.Redis) -> dict[str, str]:
    """Class to policy text, as workers read it."""
    return cast("dict[str, str]", client.hgetall(POLICY_KEY))


def texts(policies: Iterable[Policy]) -> dict[str, str]:
    """What the copy should be: of the classes alone of which an operator has said something."""
    return {one.name: policy_text(one.bound_s, one.reserve) for one in policies if one.is_overridden}
