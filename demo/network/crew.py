"""Clients of operations: each a thread, with a note of when it waited for what and when it was told."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from demo.network.record import Seen, Wake
from scheduler.errors import StokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tasks.operations import Operations

WAIT_S: Final = 60.0  # how long a client is prepared to wait for the end of an operation


class Crew:
    """Runs clients side by side. `over` is set when the run is broken off: what they meet then is no news."""

    def __init__(self, operations: Operations, over: threading.Event) -> None:
        self.seen = Seen()
        self.over = over
        self._operations = operations
        self._lock = threading.Lock()

    def wait(self, operation: int) -> None:
        """Block until the operation has ended, and note it.

        Raises:
            StokerError: it has not, and nobody need wait for what comes after it.
        """
        asked_at = time.time()
        row = self._operations.wait(operation, WAIT_S)
        if row["ended_at"] is None:
            raise StokerError(
                f"operation {operation}, {row['kind']} of {row['target']}, did not end",
                expected=f"its end within {WAIT_S:g} s",
                got=f"{row['state']} at step {row['step']} of {row['steps']}",
                remedy="see the logs",
            )
        with self._lock:
            self.seen.wakes.append(Wake(operation, asked_at, time.time()))

    def together(self, parts: Sequence[Callable[[], None]]) -> None:
        """Play all parts at once, each in a thread, until the last has ended.

        Raises:
            StokerError: what went wrong in one of them; the others have played to their end.
        """
        wrong: list[Exception] = []

        def play(part: Callable[[], None]) -> None:
            try:
                part()
            except Exception as error:  # noqa: BLE001 - raised below, in the thread that waits
                wrong.append(error)

        threads = [threading.Thread(target=play, args=(part,), name="demo-client", daemon=True) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if wrong and not self.over.is_set():
            first = wrong[0]
            if isinstance(first, StokerError):
                raise first
            raise StokerError(
                "a client of the network part broke off",
                expected=f"{len(parts)} to play their parts",
                got="; ".join(map(repr, wrong)),
                remedy="see the logs",
            ) from first
