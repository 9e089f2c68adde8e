"""How a worker without an event loop (gevent, eventlet, plain `drain_events`) waits for its broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kombu.transport.redis import MultiChannelPoller

if TYPE_CHECKING:
    from collections.abc import Callable

# A worker that has all it may hold waits for an acknowledgement, which is no event of a socket.
_RECHECK_S: Final = 0.01


class Poller(MultiChannelPoller):
    """kombu's, which looks again soon where a full worker would sleep out its whole timeout after each task."""

    _brief = False

    def get(self, callback: Callable[..., Any], timeout: float | None = None) -> Any:
        """Wait for one event, at most so many seconds.

        Raises:
            Empty: there was none.
        """
        full = any(channel.active_queues and not channel.qos.can_consume() for channel in self._channels)
        self._brief = full and (timeout is None or timeout > _RECHECK_S)
        return super().get(callback, _RECHECK_S if self._brief else timeout)

    def maybe_restore_messages(self) -> None:
        """Look for messages whose holder is gone; not after each of the brief waits, of which there may be a hundred a second."""
        if not self._brief:
            super().maybe_restore_messages()
