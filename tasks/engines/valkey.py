"""The embedded Valkey: broker, results, coalescing and wake-ups without a server to install."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import redis

from tasks.engines.binaries import valkey_program
from tasks.engines.folders import home_mode, make_folder
from tasks.engines.server import EmbeddedServer

if TYPE_CHECKING:
    from pathlib import Path

CLIENT_TIMEOUT_S = 2.0


class EmbeddedValkey(EmbeddedServer):
    """A real Valkey on a unix socket of this user alone; no TCP port."""

    name = "valkey"
    polite_signal = signal.SIGTERM
    death_signal = signal.SIGTERM  # it writes its log to the end and goes

    @property
    def _cwd(self) -> Path:
        return self.locations.valkey_data

    def _prepare(self) -> list[str]:
        make_folder(self.locations.valkey_data)
        make_folder(self.locations.valkey_socket.parent, home_mode())
        settings = {
            "port": "0",
            "unixsocket": str(self.locations.valkey_socket),
            "unixsocketperm": "700",
            # The data folder is the working folder: no path to quote.
            "dir": "./",
            "appendonly": "yes",
            "appendfsync": "everysec" if self.durable else "no",
            # The append-only file is the one copy; snapshots beside it would only cost forks.
            "save": "",
            # What an evicting policy drops is queued work.
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        return [str(valkey_program()), *(part for key, value in settings.items() for part in (f"--{key}", value))]

    def _answers(self) -> bool:
        client = redis.Redis.from_url(
            self.locations.redis_client_url, socket_timeout=CLIENT_TIMEOUT_S, socket_connect_timeout=CLIENT_TIMEOUT_S
        )
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):  # not there yet, or still loading
            return False
        finally:
            client.close()
