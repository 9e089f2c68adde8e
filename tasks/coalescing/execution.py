"""The runs in this process's hands: who they are, and the thread that says that they live."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import redis
import structlog

from scheduler.redis import coalescing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scheduler.redis.coalescing import BegunRun, Protocol
    from tasks.starts import Start

log = structlog.get_logger(__name__)

# Where a request keeps its execution, and its delivery info the token of it: that is known on both sides of the pool.
EXECUTION: Final = "execution"
_BEATS_A_LEASE: Final = 4


@dataclass(slots=True, eq=False)
class Execution:
    """One execution of a run, from its begin to its settle."""

    ask: coalescing.Ask
    token: str
    begun: BegunRun
    start: Start
    retry: tuple[str, str, float] | None = None  # message, its delivery tag, seconds until it is due
    told: bool = False  # its followers have been: what is left is to settle it
    lost: bool = False  # another has begun in its place: whatever can still be left undone should be
    carries: Any = field(default=None)  # what the task's own class keeps of it

    @property
    def id(self) -> str:
        """The task id of the leader."""
        return self.ask.id


class Heart:
    """Renews the leases of this process's executions until they end. Its thread starts with the first of them."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._executions: dict[str, Execution] = {}
        self._renewing: set[str] = set()  # tokens of executions whose renewal is under way
        self._some = threading.Condition()
        self._pid = 0
        self._also: list[Callable[[Sequence[Execution]], None]] = []

    def also(self, renew: Callable[[Sequence[Execution]], None]) -> None:
        """Renew by this, too: for leases that stand elsewhere. The same function is taken once."""
        with self._some:
            if renew not in self._also:
                self._also.append(renew)

    def add(self, execution: Execution) -> None:
        """From here on it lives."""
        with self._some:
            if self._pid != os.getpid():
                # A forked child inherits neither the thread nor the executions.
                self._pid, self._executions, self._renewing = os.getpid(), {}, set()
                threading.Thread(target=self._beat, name="stoker-heart", daemon=True).start()
            self._executions[execution.token] = execution
            self._some.notify_all()

    def remove(self, execution: Execution) -> None:
        """It has ended; once this returns, no sign of life of it is on its way any more.

        One that came after the run was settled would look like that of a run which Redis has forgotten, and keep its lane.
        """
        with self._some:
            self._executions.pop(execution.token, None)
            self._some.wait_for(lambda: execution.token not in self._renewing, self._protocol.lease_s)

    def _beat(self) -> None:
        pause_s = self._protocol.lease_s / _BEATS_A_LEASE
        rest = threading.Event()
        while True:
            with self._some:
                self._some.wait_for(lambda: self._executions)
            rest.wait(pause_s)
            with self._some:
                living, also = list(self._executions.values()), list(self._also)
                self._renewing = {execution.token for execution in living}
            try:
                try:
                    lost = self._protocol.renew([coalescing.Execution(e.id, e.token, e.ask.lane) for e in living])
                finally:
                    with self._some:
                        self._renewing = set()
                        self._some.notify_all()
                for execution in living:
                    execution.lost = execution.lost or execution.id in lost
                for renew in also:
                    renew(living)
            except Exception as error:  # noqa: BLE001 - a thread that ends lets healthy runs be taken for dead
                level = log.warning if isinstance(error, redis.RedisError) else log.error
                level("leases not renewed; tries again", runs=len(living), error=str(error))
