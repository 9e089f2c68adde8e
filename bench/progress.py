"""One line that says what is being measured now, on standard error, so that it mixes with nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console
from rich.status import Status

if TYPE_CHECKING:
    from types import TracebackType


class Progress(Protocol):
    """Where a bench says what it does."""

    def say(self, what: str) -> None:
        """It does this now."""


class StatusLine:
    """A spinner and the latest word on a terminal; nothing elsewhere."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._status = Status(name, console=Console(stderr=True), refresh_per_second=2)

    def __enter__(self) -> Self:
        """Show it."""
        self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave no line behind."""
        self._status.stop()

    def say(self, what: str) -> None:
        """It does this now."""
        self._status.update(f"{self._name}: {what}")
