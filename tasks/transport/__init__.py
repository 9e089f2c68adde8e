"""Celery's Redis broker, with Stoker's order of service: lists stay lists and the URL stays redis:// (I30 to I35).

`register` puts it in the place of kombu's own, for every connection that is opened after it.
"""

from __future__ import annotations

from typing import Final

from kombu.transport import TRANSPORT_ALIASES

_OURS: Final = {
    "redis": "tasks.transport.transports:Transport",
    "rediss": "tasks.transport.transports:Transport",
    "sentinel": "tasks.transport.transports:SentinelTransport",
}


def register() -> None:
    """Let the schemes of Redis mean this transport. Before the first connection; once or often."""
    TRANSPORT_ALIASES.update(_OURS)
