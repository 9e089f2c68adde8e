"""The processes of a run: remembered while they live, so that afterwards one can say that none is left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psutil

from tasks import processes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tasks.launchers.base import Launcher


class Processes:
    """Engines, Celery workers, beat, Flower and pool workers: whatever descends from this process."""

    def __init__(self) -> None:
        self._seen: set[processes.Identity] = set()

    def look(self) -> None:
        """Remember every descendant that runs now."""
        self.remember(child.pid for child in psutil.Process().children(recursive=True))

    def remember(self, pids: Iterable[int]) -> None:
        """Remember these, who descend from nobody any more."""
        for pid in pids:
            if (process := processes.look(pid)) is not None:
                self._seen.add(process.identity)

    def left(self, launcher: Launcher, pool_id: str) -> list[int]:
        """Numbers of the processes that still run: remembered ones, and any that carries the pool's mark."""
        remembered = {identity.pid for identity in self._seen if processes.alive(identity)}
        marked = {int(worker.handle["pid"]) for worker in launcher.list(pool_id)}
        return sorted(remembered | marked)


def end_leftovers(launcher: Launcher, note: Path) -> None:
    """Stop the pool workers of an earlier run that was killed before it could; `note` holds its pool's mark.

    All others of its processes die with their parent; workers outlive theirs on purpose.
    """
    if not note.exists():
        return
    pool_id = note.read_text(encoding="ascii").strip()

    async def stop_all() -> None:
        stops = (launcher.stop(left.handle, pool_id, left.worker_id, 0.0) for left in launcher.list(pool_id))
        await asyncio.gather(*stops)

    asyncio.run(stop_all())
    note.unlink()
