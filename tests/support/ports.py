"""A port for a service of a test."""

from __future__ import annotations

import socket
from contextlib import closing

LOOPBACK = "127.0.0.1"


def free_port(address: str = LOOPBACK) -> int:
    with closing(socket.create_server((address, 0))) as server:
        port: int = server.getsockname()[1]
    return port
