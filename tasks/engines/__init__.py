"""The engines of a deployment: those given by URL are used, those that are not are started here and stopped again."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from tasks.engines.checks import check_postgres, check_redis
from tasks.engines.folders import wipe
from tasks.engines.postgres import EmbeddedPostgres
from tasks.engines.valkey import EmbeddedValkey

if TYPE_CHECKING:
    from types import TracebackType

    from config.locations import Locations
    from tasks.engines.server import EmbeddedServer

__all__ = ["EmbeddedPostgres", "EmbeddedValkey", "Engines", "check_postgres", "check_redis", "wipe"]


class Engines:
    """PostgreSQL and Redis for the time of a `with` block.

    Starts what has no URL, or attaches to it if another process has started it; stops only what it started itself.
    The embedded servers die with the thread that enters the block, even by kill -9 (Linux).
    """

    def __init__(
        self,
        settings_database_url: str | None,
        settings_redis_url: str | None,
        locations: Locations,
        *,
        durable: bool = True,
        die_with_parent: bool = True,
    ) -> None:
        self.database_url = settings_database_url or locations.database_url
        self.redis_url = settings_redis_url or locations.redis_url
        self.redis_client_url = settings_redis_url or locations.redis_client_url
        self.embedded: list[EmbeddedServer] = []
        if settings_redis_url is None:
            self.embedded.append(EmbeddedValkey(locations, durable=durable, die_with_parent=die_with_parent))
        if settings_database_url is None:
            self.embedded.append(EmbeddedPostgres(locations, durable=durable, die_with_parent=die_with_parent))
        self._started = ExitStack()

    def __enter__(self) -> Self:
        """Have both engines answer.

        Raises:
            Permanent, Temporary: one of them could not be started; the other is stopped again.
        """
        with ExitStack() as started:
            for server in self.embedded:
                if server.start():
                    started.callback(server.stop)
            self._started = started.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop what `__enter__` started."""
        self._started.close()
