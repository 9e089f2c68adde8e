"""The engines under test: a PostgreSQL and a Redis of the suite's own, or those that STOKER_*_URL name."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import redis
from psycopg import sql

from config.locations import Locations
from scheduler.store.migrate import migrate
from scheduler.store.schema import metadata
from tasks.engines import Engines, wipe
from tests.support import beside

_REDIS_DATABASES = max(2, 16 // beside.PROCESSES)  # for each process, of what a Redis has unless it is told otherwise
_redis_databases = count()

# Every table but the one row of `installation`, those that refer to others first.
_FILLED = [
    table.name for table in reversed(metadata.sorted_tables) if table.name not in {"installation", "alembic_version"}
]


@dataclass(frozen=True)
class Servers:
    """Where the engines are. `redis_url` None: the embedded one of `state_dir`."""

    state_dir: Path
    database_url: str
    redis_client_url: str
    redis_url: str | None
    template: str

    @contextmanager
    def database(self) -> Iterator[str]:
        """A migrated database of its own: a copy of the template, for who changes its schema or runs a stack on it."""
        name = f"stoker_test_{uuid.uuid4().hex[:12]}"
        with _administered(self.database_url) as connection:
            connection.execute(
                sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(self.template))
            )
        url = with_database(self.database_url, name)
        with _administered(url) as connection:
            # A copy is another installation: with the same mark, each would stop the other's workers as orphans.
            connection.execute("update installation set pool_id = gen_random_uuid()")
        try:
            yield url
        finally:
            _drop(self.database_url, name)

    def empty(self, url: str) -> None:
        """Remove every row that a test left there: a hundred times faster than another copy of the template."""
        with _administered(url) as connection:
            for table in _FILLED:
                connection.execute(sql.SQL("delete from {}").format(sql.Identifier(table)))

    def redis_apart(self) -> str | None:
        """An emptied database of the given Redis that no other test uses; None where a stack brings its own Redis.

        The workers of one stack would take the messages of another, and of tests that only look at the queues.
        """
        if self.redis_url is None:
            return None
        number = next(_redis_databases) % (_REDIS_DATABASES - 1) + 1
        url = _redis_database(self.redis_url, number)
        with closing(redis.Redis.from_url(url)) as client:
            client.flushdb()
        return url

    def flush(self) -> None:
        """Empty the Redis: what a test finds there is its own."""
        with closing(redis.Redis.from_url(self.redis_client_url)) as client:
            client.flushdb()


@contextmanager
def running_servers() -> Iterator[Servers]:
    """The engines for the time of the block, with a migrated template database."""
    # Not pytest's own folder: that is 0700, and as root PostgreSQL runs as somebody else.
    state_dir = Path(tempfile.mkdtemp(prefix="stoker-test-", dir="/var/tmp"))
    state_dir.chmod(0o711)
    locations = Locations.under(state_dir)
    database_url = os.environ.get("STOKER_DATABASE_URL") or None
    redis_url = os.environ.get("STOKER_REDIS_URL") or None
    if redis_url is not None:
        redis_url = _redis_database(redis_url, beside.NUMBER * _REDIS_DATABASES)
    template = f"stoker_template_{uuid.uuid4().hex[:12]}"
    with ExitStack() as down:
        down.callback(shutil.rmtree, state_dir, ignore_errors=True)
        down.callback(wipe, locations)
        engines = down.enter_context(Engines(database_url, redis_url, locations, durable=False))
        with _administered(engines.database_url) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(template)))
        down.callback(_drop, engines.database_url, template)
        migrate(with_database(engines.database_url, template))
        yield Servers(state_dir, engines.database_url, engines.redis_client_url, redis_url, template)


def with_database(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    # Not _replace().geturl(): that drops the empty host of a URL whose host is a socket folder.
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}/{name}{query}"


def _redis_database(url: str, further: int) -> str:
    """The database so many further than this one, on the same Redis."""
    number = int(urlsplit(url).path.strip("/") or 0) + further
    return with_database(url, str(number % (_REDIS_DATABASES * beside.PROCESSES)))


@contextmanager
def _administered(url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with closing(psycopg.connect(url, autocommit=True, connect_timeout=10)) as connection:
        yield connection


def _drop(url: str, name: str) -> None:
    with _administered(url) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
