"""Threads that submit refreshes of the same networks: how many a second, how many steps run for them; and without coalescing."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Final

from config.settings import load
from scheduler.errors import Temporary
from tasks.context import Context

if TYPE_CHECKING:
    from scheduler.store.database import Row

_END_S_MAX: Final = 300.0
_STEP_S: Final = 0.005


@dataclass(frozen=True)
class Load:
    """How much is submitted in a round."""

    threads: int
    submits: int


@dataclass(frozen=True)
class Served:
    """What a round came to."""

    submits: int
    submitted_s: float
    completed_s: float  # from the first submit until all that was asked for had ended
    operations: int  # rows: a submit that found its equal queued made none
    steps_asked: int
    steps_run: int


class Crowd:
    """Two callers on one deployment: one whose operations share runs, and one whose do not."""

    def __init__(self, context: Context, networks: int, node: str) -> None:
        self._context = context
        self._alone = Context(load(operations={"coalesce": False}), context.app)
        self._networks = [f"crowd{number}" for number in range(networks)]
        self.together: list[Served] = []
        self.apart: list[Served] = []
        for number, name in enumerate(self._networks):
            context.networks.create(name, f"10.90.{number}.0/24", node=node)
        self._until_ended()

    def round(self, load: Load) -> None:
        """Both, the one that went last first."""
        turns = [(self._context, self.together), (self._alone, self.apart)]
        for context, found in turns if len(self.together) % 2 == 0 else reversed(turns):
            found.append(self._serve(context, load))

    def _serve(self, context: Context, load: Load) -> Served:
        before = self._last()
        targets = list(islice(cycle(self._networks), load.submits))
        began = time.perf_counter()
        with ThreadPoolExecutor(load.threads) as threads:
            list(threads.map(lambda network: context.operations.submit("network.refresh", network), targets))
        submitted_s = time.perf_counter() - began
        self._until_ended()
        completed_s = time.perf_counter() - began
        found = self._context.db.row(
            "select (select count(*)::int from operations where id > %(operation)s) as operations,"
            " (select sum(steps * asked)::int from operations where id > %(operation)s) as asked,"
            " (select count(*)::int from runs where id > %(run)s) as run",
            **before,
        )
        assert found is not None
        return Served(load.submits, submitted_s, completed_s, found["operations"], found["asked"], found["run"])

    def _last(self) -> Row:
        row = self._context.db.row(
            "select (select coalesce(max(id), 0) from operations) as operation, (select coalesce(max(id), 0) from runs) as run"
        )
        assert row is not None
        return row

    def _until_ended(self) -> None:
        deadline = time.monotonic() + _END_S_MAX
        while self._context.db.row("select 1 from operations where ended_at is null limit 1"):
            if time.monotonic() > deadline:
                raise Temporary(
                    "operations did not end", expected=f"within {_END_S_MAX:g} s", remedy="see the stack's logs"
                )
            time.sleep(_STEP_S)
