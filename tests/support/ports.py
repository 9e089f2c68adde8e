"""A port for a service of a test."""

from __future__ import annotations

import socket
from contextlib import closing


def free_port(address: str) -> int:
    with closing(socket.create_server((address, 0))) as server:
        port: int = server.getsockname()[1]
    return port
