"""A small HTTP/1.1 server that speaks JSON on loopback, made to start fast.

The standard library's ``http.server`` takes three times as long to import as the interpreter takes to start (36 ms
beside 12 ms): thirty workers that start at once on two cores would wait half a second for it.
"""

from __future__ import annotations

import json
import socketserver
import threading

from demo.gate import Refused

TYPE_CHECKING = False  # typing itself would cost 5 ms
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from io import BufferedIOBase
    from typing import Any

LOOPBACK = "127.0.0.1"
LINE_BYTES_MAX = 8_192
HEADERS_MAX = 64
BODY_BYTES_MAX = 64 * 1_024
CONNECTIONS_MAX = 64
IDLE_S = 60.0

_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict"}


class Request:
    """One request, read whole."""

    __slots__ = ("body", "headers", "method", "path")

    def __init__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body

    @property
    def bearer(self) -> str:
        """The bearer token; empty when there is none."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    def json(self) -> dict[str, Any]:
        """The body as a JSON object.

        Raises:
            Refused: it is none.
        """
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise Refused(400, "expected a JSON object as the body")
        return value


class JsonServer(socketserver.ThreadingTCPServer):
    """A thread for each connection, at most `CONNECTIONS_MAX` of them; listens as soon as it exists."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, port: int, answer: Callable[[Request], tuple[int, dict[str, Any]]], address: str = LOOPBACK
    ) -> None:
        """Listen at that address and at no other.

        Raises:
            OSError: the port is taken.
        """
        self.answer = answer
        self._slots = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__((address, port), _Connection)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: Any) -> None:  # noqa: ANN401 - socketserver's type
        """Serve in a thread, or hang up when all are taken."""
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: socket.socket | tuple[bytes, socket.socket], client_address: Any) -> None:  # noqa: ANN401
        """Serve one connection, then give its slot back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()


class _Connection(socketserver.StreamRequestHandler):
    timeout = IDLE_S
    disable_nagle_algorithm = True
    server: JsonServer

    def handle(self) -> None:
        try:
            while self._serve_one():
                pass
        except (OSError, EOFError):
            return  # the client left, or said nothing for too long

    def _serve_one(self) -> bool:
        try:
            request = read_request(self.rfile)
        except Refused as error:
            # Where its body ends is unknown, so that nothing after it can be read.
            self._send(error.status, {"error": error.reason}, keep=False)
            return False
        keep = request.headers.get("connection", "").lower() != "close"
        try:
            status, document = self.server.answer(request)
        except Refused as error:
            status, document = error.status, {"error": error.reason}
        self._send(status, document, keep=keep)
        return keep

    def _send(self, status: int, document: dict[str, Any], *, keep: bool) -> None:
        body = json.dumps(document).encode()
        connection = "keep-alive" if keep else "close"
        head = (
            f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: {connection}\r\n\r\n"
        )
        self.wfile.write(head.encode("ascii") + body)


def read_request(stream: BufferedIOBase) -> Request:
    """Read one request with its body, every part of it bounded.

    Raises:
        Refused: it is no HTTP/1.1 request, or longer than the bounds.
        EOFError: the client left instead.
    """
    words = _line(stream).split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):  # noqa: PLR2004 - method, path, version
        raise Refused(400, "expected an HTTP/1.1 request")
    headers: dict[str, str] = {}
    while line := _line(stream):
        name, colon, value = line.partition(":")
        if not colon or len(headers) >= HEADERS_MAX:
            raise Refused(400, "unreadable or too many headers")
        headers[name.lower()] = value.strip()
    if "transfer-encoding" in headers:
        raise Refused(411, "expected a Content-Length")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()) or len(length) > len(str(BODY_BYTES_MAX)):
        raise Refused(413 if length.isdecimal() else 400, "unreadable or too large a Content-Length")
    if int(length) > BODY_BYTES_MAX:
        raise Refused(413, f"expected a body of at most {BODY_BYTES_MAX} bytes")
    body = stream.read(int(length))
    if len(body) < int(length):
        raise EOFError
    return Request(words[0], words[1].partition("?")[0], headers, body)


def _line(stream: BufferedIOBase) -> str:
    line = stream.readline(LINE_BYTES_MAX)
    if not line:
        raise EOFError
    if not line.endswith(b"\n"):
        raise Refused(400, f"expected lines of at most {LINE_BYTES_MAX} bytes")
    return line.rstrip(b"\r\n").decode("latin-1")
