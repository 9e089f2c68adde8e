"""How a worker without an event loop (gevent, eventlet, plain `drain_events`) waits for its broker."""

from __future__ import annotations

from queue import Empty
from typing import TYPE_CHECKING, Any, Final

from kombu.transport.redis import MultiChannelPoller

if TYPE_CHECKING:
    from collections.abc import Callable

# A worker that has all it may hold waits for an acknowledgement, which is no event of a socket.
_RECHECK_S: Final = 0.01


class Poller(MultiChannelPoller):
    """kombu's, but for two things that it leaves out where no event loop runs.

    A full worker looks again soon, where it would sleep out its whole timeout after each task. And messages whose holder is
    gone are looked for when nothing comes: kombu does that only where a wait ends without any event, and the end of a
    blocking command is one.
    """

    _brief = False

    def get(self, callback: Callable[..., Any], timeout: float | None = None) -> Any:
        """Wait for one event, at most so many seconds.

        Raises:
            Empty: no message came.
        """
        full = any(channel.active_queues and not channel.qos.can_consume() for channel in self._channels)
        self._brief = full and (timeout is None or timeout > _RECHECK_S)
        try:
            return super().get(callback, _RECHECK_S if self._brief else timeout)
        except Empty:
            self.maybe_restore_messages()
            raise

    def maybe_restore_messages(self) -> None:
        """Look for messages whose holder is gone; not after each of the brief waits, of which there may be a hundred a second."""
        if not self._brief:
            super().maybe_restore_messages()
