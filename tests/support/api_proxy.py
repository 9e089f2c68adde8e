"""Stands before an API server and does what networks and overloaded servers do: loses answers, cuts watches, says 429."""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import urllib3

from tests.support.control_plane import ControlPlane, kubeconfig_for

_GONE = b'{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410}'
_TOO_MANY = (
    b'{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"TooManyRequests","code":429,'
    b'"details":{"retryAfterSeconds":1}}'
)
FAULTS = ("busy", "lost", "refused")


class ApiProxy:
    """One fault at a time by `next`, or each request by chance with `chance`. `seen` counts what it did, by fault."""

    def __init__(self, plane: ControlPlane, folder: Path, seed: int = 0) -> None:
        self.plane = plane
        self.seen: Counter[str] = Counter()
        self.next: list[str] = []
        self.chance = 0.0
        self.forgets: list[str] = []  # of each next watch: "at once", or "in the stream", as servers do both
        self._dice = random.Random(seed)
        self._lock = threading.Lock()
        self._watches: set[socket.socket] = set()
        self.pool = plane.pool(connections=64)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.kubeconfig = kubeconfig_for(folder / "proxied", url, None, plane.token)

    @contextmanager
    def running(self) -> Iterator[ApiProxy]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            self.cut()

    def cut(self) -> None:
        """End every watch in the middle."""
        with self._lock:
            for watch in self._watches:
                with suppress(OSError):
                    watch.shutdown(socket.SHUT_RDWR)
            self.seen["cut"] += len(self._watches)
            self._watches.clear()

    def fault(self, method: str) -> str:
        """What becomes of this request: nothing, or one of FAULTS."""
        with self._lock:
            if method == "GET":
                return ""
            by_chance = self._dice.choice(FAULTS) if self._dice.random() < self.chance else ""
            chosen = self.next.pop(0) if self.next else by_chance
            if chosen:
                self.seen[chosen] += 1
            return chosen

    def watching(self, connection: socket.socket) -> None:
        with self._lock:
            self._watches.add(connection)


class _Handler(BaseHTTPRequestHandler):
    proxy: ApiProxy
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.fault(self.command)
        if fault == "refused":
            self._hang_up()
            return
        if "watch=true" in self.path and self.proxy.forgets:
            self._forget(self.proxy.forgets.pop(0))
            return
        if fault == "busy":
            self._answer(429, _TOO_MANY)
            return
        headers = {k: v for k, v in self.headers.items() if k.lower() in {"authorization", "content-type", "accept"}}
        try:
            response = self.proxy.pool.request(
                self.command,
                self.proxy.plane.server + self.path,
                body=body or None,
                headers=headers,
                retries=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=5, read=120),
            )
            if "watch=true" in self.path and response.status == 200:
                self._stream(response)
                return
            data = response.read()
        except (urllib3.exceptions.HTTPError, OSError):
            self._hang_up()
            return
        if fault == "lost":
            self._hang_up()
        else:
            self._answer(response.status, data)

    do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - the standard library's names

    def _answer(self, status: int, data: bytes) -> None:
        with suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def _stream(self, response: Any) -> None:
        self.proxy.watching(self.connection)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with suppress(OSError, urllib3.exceptions.HTTPError):
            for chunk in response.stream(amt=None):
                self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        response.close()
        self.close_connection = True

    def _forget(self, how: str) -> None:
        self.proxy.seen["forgot"] += 1
        if how == "at once":
            self._answer(410, _GONE)
        else:
            self._answer(200, b'{"type":"ERROR","object":' + _GONE + b"}\n")

    def _hang_up(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass
