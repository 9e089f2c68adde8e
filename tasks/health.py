"""Whether one service works, asked from beside it: what containers and their keepers call every half minute.

Each answer is bounded in time and costs a process that loads no more than its question needs: Stoker's own app is not
loaded for a ping.
"""

from __future__ import annotations

import http.client
import socket
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from config.queues import SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from ipaddress import IPv4Address
    from pathlib import Path

    from config.locations import Locations
    from config.settings import Settings

ENGINES: Final = "engines"
# Beat's loop comes round every second; a round that finds an engine away takes what that engine's timeouts allow.
STALE_S: Final = 30.0


class Unwell(Exception):  # noqa: N818 - a finding
    """What keeps a service from being well, in one line."""


@dataclass(frozen=True)
class Health:
    """What was found of one service."""

    service: str
    ok: bool
    found: str
    seconds: float


def sign_of_life(locations: Locations) -> Path:
    """The file that a beat touches. Beats that share a state folder share it: one that hangs is covered by the other."""
    return locations.run / "beat-alive"


def check(service: str, settings: Settings, *, node: str | None = None, timeout_s: float) -> Health:
    """Ask one service; whatever is not the name of a companion is that of a Celery worker, NAME@HOST or NAME alone."""
    began = time.monotonic()
    companion = COMPANIONS.get(service)
    try:
        found = companion(settings, timeout_s) if companion else _worker(settings, timeout_s, node or service)
        ok = True
    except Unwell as finding:
        found, ok = str(finding), False
    return Health(service, ok, found, round(time.monotonic() - began, 3))


def _worker(settings: Settings, timeout_s: float, node: str) -> str:
    """By Celery's ping, which the worker's main loop answers: not one that hangs, nor one that has lost its broker."""
    # From its own module: threads that import the package's lazy name at once have an ImportError.
    from celery.app.base import Celery  # noqa: PLC0415 - the other checks do without
    from kombu.exceptions import OperationalError  # noqa: PLC0415
    from redis import RedisError  # noqa: PLC0415

    name = node_name(node)
    # A bare app on kombu's own transport: for a ping it is the same, and it costs half a second of a processor less.
    options = {
        "sep": SEPARATOR,
        "priority_steps": [0],  # one list a queue, which is what Stoker's user may read
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "max_retries": 1,
    }
    with Celery("health", broker=settings.broker_url, set_as_current=False, broker_transport_options=options) as app:
        try:
            replies = app.control.ping(destination=[name], timeout=timeout_s)
        except (OperationalError, RedisError, OSError) as error:
            raise Unwell(f"the broker does not answer: {error}") from error
    if not replies:
        raise Unwell(f"no answer of {name} within {timeout_s:g} s")
    return f"{name} answers"


def _beat(settings: Settings, _: float) -> str:
    """A beat that stands by is as well as the active one."""
    path = sign_of_life(settings.locations)
    try:
        age_s = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        raise Unwell(f"no beat has run here: there is no {path}") from None
    if age_s > STALE_S:
        raise Unwell(f"its loop last came round {age_s:.0f} s ago; at most {STALE_S:g} s are expected")
    return f"its loop came round {max(age_s, 0.0):.1f} s ago"


def _flower(settings: Settings, timeout_s: float) -> str:
    prefix = f"/{settings.flower.url_prefix}" if settings.flower.url_prefix else ""
    return _http(settings.flower.address, settings.flower.port, f"{prefix}/healthcheck", timeout_s)


def _exporter(settings: Settings, timeout_s: float) -> str:
    """Not by /metrics: that asks the engines, and one that is away is not mended by a restart of the exporter."""
    return _http(settings.exporter.address, settings.exporter.port, "/healthz", timeout_s)


def _engines(settings: Settings, timeout_s: float) -> str:
    import psycopg  # noqa: PLC0415 - the other checks do without
    import redis  # noqa: PLC0415

    from scheduler.redis.connection import at_once, connect  # noqa: PLC0415

    try:
        # libpq waits for two seconds at least.
        with psycopg.connect(settings.database_dsn, connect_timeout=max(2, round(timeout_s))) as connection:
            connection.execute("select 1")
    except psycopg.Error as error:
        raise Unwell(f"postgresql: {_one_line(error)}") from error
    try:
        with connect(settings.redis_client_url, timeout_s, retry=at_once()) as client:
            client.ping()
    except redis.RedisError as error:
        raise Unwell(f"redis: {_one_line(error)}") from error
    return "postgresql and redis answer"


COMPANIONS: Final[Mapping[str, Callable[[Settings, float], str]]] = {
    ENGINES: _engines,
    "beat": _beat,
    "beat-standby": _beat,
    "flower": _flower,
    "exporter": _exporter,
}


def node_name(node: str) -> str:
    """A Celery worker's full name: of this host where none is given, and %h is this host."""
    full = node if "@" in node else f"{node}@%h"
    return full.replace("%h", socket.gethostname())


def _http(address: IPv4Address, port: int, path: str, timeout_s: float) -> str:
    host = "127.0.0.1" if address.is_unspecified else str(address)
    where = f"http://{host}:{port}{path}"
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise Unwell(f"{where}: {error!r}") from error
    finally:
        connection.close()
    if status != HTTPStatus.OK:
        raise Unwell(f"{where}: status {status}")
    return f"{where} answers"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or repr(error)
