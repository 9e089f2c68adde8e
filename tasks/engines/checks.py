"""What Stoker asks of a Redis and of a PostgreSQL, embedded or given by URL, before it trusts them with work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from scheduler.errors import Permanent

if TYPE_CHECKING:
    import psycopg
    import redis

REDIS_MAJOR_MIN: Final = 7
VALKEY_MAJOR_MIN: Final = 8
POSTGRES_MAJOR_MIN: Final = 15
SAFE_POLICY: Final = "noeviction"


def check_redis(client: redis.Redis) -> None:
    """Refuse a Redis that is too old, or that may drop queued work when its memory is full.

    Raises:
        Permanent: older than Redis 7 or Valkey 8, or its maxmemory-policy evicts.
        redis.RedisError: it could not be asked.
    """
    found: dict[str, Any] = client.info()
    # Valkey also reports the Redis version that it is compatible with, and that one stays at 7.2.
    if "valkey_version" in found:
        name, version, least = "Valkey", str(found["valkey_version"]), VALKEY_MAJOR_MIN
    else:
        name, version, least = "Redis", str(found["redis_version"]), REDIS_MAJOR_MIN
    if _major(version) < least:
        raise Permanent(
            "the Redis server is too old",
            expected=f"Redis >= {REDIS_MAJOR_MIN} or Valkey >= {VALKEY_MAJOR_MIN}",
            got=f"{name} {version}",
            remedy="upgrade it, or unset STOKER_REDIS_URL to use the embedded one",
        )
    policy = str(found["maxmemory_policy"])
    if policy != SAFE_POLICY:
        raise Permanent(
            f"{name} may drop queued work: its maxmemory-policy evicts",
            expected=SAFE_POLICY,
            got=policy,
            remedy=f"CONFIG SET maxmemory-policy {SAFE_POLICY} (and in its configuration file), or use another server",
        )


def check_postgres(connection: psycopg.Connection[Any]) -> None:
    """Refuse a PostgreSQL that is too old.

    Raises:
        Permanent: older than PostgreSQL 15.
    """
    # 150004 is 15.4.
    major, minor = divmod(connection.info.server_version, 10_000)
    if major < POSTGRES_MAJOR_MIN:
        raise Permanent(
            "the PostgreSQL server is too old",
            expected=f"PostgreSQL >= {POSTGRES_MAJOR_MIN}",
            got=f"{major}.{minor}",
            remedy="upgrade it, or unset STOKER_DATABASE_URL to use the embedded one",
        )


def _major(version: str) -> int:
    return int(version.partition(".")[0])
