"""The ground a bench stands on: engines of its own in a temporary state folder, or a place of its own on those given by URL."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
import sqlalchemy as sa
from psycopg import sql

from config.settings import load
from scheduler.errors import Permanent
from scheduler.redis.connection import connect
from tasks.engines import EmbeddedValkey, Engines, wipe
from tasks.engines.folders import make_home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from config.settings import Settings

_DATABASE_URL: Final = "STOKER_DATABASE_URL"
_REDIS_URL: Final = "STOKER_REDIS_URL"


@contextmanager
def settings_of(toml: str) -> Iterator[Settings]:
    """Settings of these lines, in this process and all that it starts, and a state folder that is gone afterwards.

    Of an operator's variables only the engines' URLs count: any other would make two runs two different measurements.
    The engines given by them are used beside their data: a database that is made and dropped, a Redis that is empty.

    Raises:
        Permanent: STOKER_REDIS_URL names a Redis that holds something.
    """
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as folder, ExitStack() as after:
        after.callback(os.environ.update, before)
        after.callback(os.environ.clear)
        for name in [name for name in os.environ if name.startswith("STOKER_")]:
            del os.environ[name]
        file = Path(folder) / "stoker.toml"
        file.write_text(toml, encoding="utf-8")
        os.environ["STOKER_CONFIG"] = str(file)
        os.environ["STOKER_STATE_DIR"] = str(Path(folder) / "state")
        if url := before.get(_DATABASE_URL):
            os.environ[_DATABASE_URL] = after.enter_context(database_beside(url, f"stoker_bench_{os.getpid()}"))
        if url := before.get(_REDIS_URL):
            os.environ[_REDIS_URL] = after.enter_context(_empty_redis(url))
        settings = load()
        after.callback(wipe, settings.locations)
        yield settings


@contextmanager
def engines(settings: Settings) -> Iterator[None]:
    """Both engines, durable as a deployment has them: a commit that need not reach the disk is a faster commit."""
    with Engines(settings.database_url, settings.redis_url, settings.locations, durable=True):
        yield


@contextmanager
def broker(settings: Settings) -> Iterator[None]:
    """Redis alone, durable likewise."""
    make_home(settings.locations)
    with ExitStack() as down:
        if settings.redis_url is None:
            server = EmbeddedValkey(settings.locations, durable=True)
            if server.start():
                down.callback(server.stop)
        yield


def versions(settings: Settings) -> dict[str, str]:
    """Of both engines."""
    with psycopg.connect(settings.database_dsn) as connection:
        postgres = connection.info.parameter_status("server_version") or "unknown"
    return {"postgres": postgres, **broker_version(settings)}


def broker_version(settings: Settings) -> dict[str, str]:
    """Of the Redis that runs."""
    with closing(connect(settings.redis_client_url)) as client:
        facts: Any = client.info("server")
    name = "valkey" if "valkey_version" in facts else "redis"
    return {"redis_server": f"{name} {facts[f'{name}_version']}"}


@contextmanager
def database_beside(url: str, name: str) -> Iterator[str]:
    """A new database on the same server, for the time of the block; where it is."""
    _run(url, sql.SQL("create database {}"), name)
    try:
        yield sa.make_url(url).set(database=name).render_as_string(hide_password=False)
    finally:
        _run(url, sql.SQL("drop database {} with (force)"), name)


def _run(url: str, statement: sql.SQL, name: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.format(sql.Identifier(name)))


@contextmanager
def _empty_redis(url: str) -> Iterator[str]:
    with closing(connect(url)) as client:
        held: Any = client.dbsize()
        if held:
            raise Permanent(
                "the Redis for the bench is in use",
                expected="an empty database",
                got=f"{held} keys",
                remedy="name another one in STOKER_REDIS_URL (redis://host:6379/15), or unset it",
            )
        try:
            yield url
        finally:
            client.flushdb()
