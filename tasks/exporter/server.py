"""/metrics and /healthz over HTTP."""

from __future__ import annotations

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client.exposition import choose_encoder

from scheduler.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

log = structlog.get_logger(__name__)

_PLAIN: Final = "text/plain; charset=utf-8"
_LAST_PORT: Final = 65_535


class Server:
    """Serves one registry, each request in a thread of its own."""

    def __init__(self, address: str, port: int, registry: CollectorRegistry, is_healthy: Callable[[], bool]) -> None:
        """Take the port.

        Raises:
            Refused: it is none, is another's, or may not be had.
        """

        class Handler(_Handler):
            pass

        Handler.registry, Handler.is_healthy = registry, staticmethod(is_healthy)
        if not 0 <= port <= _LAST_PORT:
            raise _no_port(address, port, "no port")
        try:
            self._server = ThreadingHTTPServer((address, port), Handler)
        except OSError as error:
            raise _no_port(address, port, str(error)) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="stoker-metrics")

    @property
    def url(self) -> str:
        """Where it answers."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> None:
        """Answer from here on."""
        self._thread.start()

    def stop(self) -> None:
        """Give the port back."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    registry: CollectorRegistry
    is_healthy: Callable[[], bool]
    server_version, sys_version = "stoker", ""
    # A client that connects and says nothing keeps a thread for no longer than this.
    timeout = 10.0

    def do_GET(self) -> None:
        """Answer a GET."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            self._answer(HTTPStatus.OK, kind, encode(self.registry))
        elif path == "/healthz":
            # Engines that are away are in the metrics: to start this process again would bring none of them back.
            well = self.is_healthy()
            status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
            self._answer(status, _PLAIN, b"ok\n" if well else b"the listener has ended; restart the exporter\n")
        else:
            self._answer(HTTPStatus.NOT_FOUND, _PLAIN, b"there are /metrics and /healthz\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's own name
        """Not on standard error: a scrape every few seconds would be all of the log."""
        log.debug("request", line=format % args)

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _no_port(address: str, port: int, got: str) -> Refused:
    return Refused(
        f"metrics cannot be served on {address}:{port}",
        expected=f"a free port from 1 to {_LAST_PORT}, or 0 for any that is free",
        got=got,
        remedy="choose another by --port, or as [exporter] port in the settings",
    )
