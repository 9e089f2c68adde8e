"""How hard this process presses the API server: so many requests a second, so many at once, and a pause when it says so."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Limits:
    """A token bucket, kept as the instant at which it would be full again: one number, whoever asks how often.

    (The generic cell rate algorithm, of ATM networks.) Safe for threads.
    """

    def __init__(self, qps: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._each_s = 1.0 / qps
        self._credit_s = (burst - 1) * self._each_s
        self._clock = clock
        self._lock = threading.Lock()
        self._full_at = clock()
        self._paused_until = clock()

    def reserve(self, at_most_s: float) -> float | None:
        """Seconds to wait before the next request; None, and nothing taken, if those are more than `at_most_s`."""
        with self._lock:
            now = self._clock()
            full_at = max(self._full_at, now)
            wait_s = max(0.0, full_at - self._credit_s - now, self._paused_until - now)
            if wait_s > at_most_s:
                return None
            self._full_at = full_at + self._each_s
            return wait_s

    def pause(self, seconds: float) -> None:
        """Nobody asks for so long: the server is overloaded, and one request of many is told for all."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock() + seconds)
