"""Counts round trips to PostgreSQL where they cannot be argued with: on the wire, between client and server."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bench.tap import Tap


class Wiretap(Tap):
    """A relay on a unix socket that counts by the block."""

    @contextmanager
    def counting(self) -> Iterator[list[int]]:
        """Appends the round trips of the block to the list when it ends."""
        counted: list[int] = []
        before = self.asked
        yield counted
        counted.append((self.asked - before).round_trips)


@contextmanager
def tapped(url: str) -> Iterator[Wiretap]:
    """A relay to this database for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="tap-") as folder, closing(Wiretap(url, Path(folder))) as tap:
        yield tap
