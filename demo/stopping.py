"""Ctrl-C, SIGTERM and SIGHUP: the first breaks the run off, and none interrupts the clean-up that follows."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """Hears stop signals for the time of a `with` block. To be entered in the main thread.

    The first one raises KeyboardInterrupt there. Once the run is being left, by a signal or at its end, each further one
    calls `force`, which hurries the clean-up and leaves none of it out.
    """

    def __init__(self, force: Callable[[], None]) -> None:
        self._force = force
        self._leaving = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        # What was ignored from the start (nohup) stays so.
        heard = [signum for signum in STOP_SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN]
        self._before = {signum: signal.signal(signum, self._receive) for signum in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """From the end of this block on, however it ends, the run is being left."""
        try:
            yield
        finally:
            self._leaving = True

    def _receive(self, _signum: int, _frame: FrameType | None) -> None:
        if self._leaving:
            self._force()
            return
        self._leaving = True
        raise KeyboardInterrupt
