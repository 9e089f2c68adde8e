"""The few bytes of HTTP/1.1 that probes and activations exchange with a worker: a request, and the answer's status."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

STATUS_LINE_BYTES_MAX: Final = 1_024
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r\n]")
_OK: Final = range(200, 300)


def address(endpoint: str) -> tuple[str, int]:
    """Host and port of an endpoint such as ``http://127.0.0.1:21007``.

    Raises:
        ValueError: it is not of that form.
    """
    parts = urlsplit(endpoint)
    if parts.scheme != "http" or parts.hostname is None or parts.port is None:
        msg = f"worker endpoint: expected http://HOST:PORT, got {endpoint!r}; mend the launcher that gave it"
        raise ValueError(msg)
    return parts.hostname, parts.port


def get(endpoint: str, path: str) -> bytes:
    """A GET request, as one packet."""
    return f"GET {path} HTTP/1.1\r\nHost: {urlsplit(endpoint).netloc}\r\nConnection: close\r\n\r\n".encode("ascii")


def post(endpoint: str, path: str, bearer: str, body: bytes) -> bytes:
    """A POST request with a JSON body, as one packet.

    Raises:
        ValueError: the bearer token would break out of its header.
    """
    if not (bearer.isascii() and bearer.isprintable()):
        msg = "bearer token: expected printable ASCII, got something else; make it of letters and digits"
        raise ValueError(msg)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {urlsplit(endpoint).netloc}\r\nConnection: close\r\n"
        f"Authorization: Bearer {bearer}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def status(line: bytes) -> int | None:
    """The status of an answer's first line; None when it is not HTTP."""
    match = _STATUS.match(line)
    return int(match[1]) if match else None


def is_yes(code: int | None) -> bool:
    """Whether a status is a 2xx. A redirect is none: nobody follows it."""
    return code in _OK
