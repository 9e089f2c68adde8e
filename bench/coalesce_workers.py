"""Real workers for the coalescing bench: processes of their own, ended with whoever started them."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scheduler.errors import Temporary
from tasks.engines.launch import Child, launch

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.coalesce_app import Board

READY_S: Final = 60.0
STEP_S: Final = 0.005
_ROOT: Final = Path(__file__).parent.parent
_UNACKED: Final = "unacked"


@dataclass
class Workers:
    """The workers of one broker, and the wait for what they do."""

    broker_url: str
    lease_s: float
    folder: Path
    board: Board
    _children: dict[str, Child] = field(default_factory=dict)

    def start(self, name: str, *queues: str, slots: int) -> None:
        """Start one; `until_ready` waits for all."""
        told = {
            "broker_url": self.broker_url,
            "lease_s": self.lease_s,
            "name": name,
            "queues": queues,
            "slots": slots,
        }
        self._children[name] = launch(
            (sys.executable, "-m", "bench.coalesce_app", json.dumps(told)),
            log=self.folder / f"{name}.log",
            cwd=_ROOT,
            death_signal=signal.SIGKILL,
        )

    def until_ready(self) -> None:
        """Every worker takes tasks."""
        for name in self._children:
            self.until(partial(self.board.said, "ready", name), f"worker {name} is ready", READY_S)

    def kill(self, name: str) -> None:
        """As the kernel does it: without a word."""
        child = self._children.pop(name)
        os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()

    def close(self) -> None:
        """End those that are left."""
        for name in list(self._children):
            self.kill(name)

    def until(self, look: Callable[[], object], what: str, within_s: float) -> None:
        """Look until it is so.

        Raises:
            Temporary: it was not, in all this time.
        """
        if not self.comes(look, within_s):
            raise Temporary(
                f"did not come: {what}", expected=f"within {within_s:g} s", remedy="see if the machine is busy"
            )

    def comes(self, look: Callable[[], object], within_s: float) -> bool:
        """Whether it is so within that time."""
        deadline = time.monotonic() + within_s
        while not look():
            if time.monotonic() > deadline:
                return False
            time.sleep(STEP_S)
        return True

    def is_quiet(self, *queues: str, held: int = 0) -> bool:
        """Nothing is in these queues, and workers hold no more messages than that many."""
        with self.board.redis.pipeline() as pipe:
            pipe.hlen(_UNACKED)
            for queue in queues:
                pipe.llen(queue)
            unacknowledged, *queued = pipe.execute()
        return bool(unacknowledged <= held and not any(queued))
