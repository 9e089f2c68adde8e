"""The waiting room: however many claims wait in a process, one thread listens and says that all their callers live (I4)."""

from __future__ import annotations

import os
import threading
import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from scheduler.errors import Refused, Temporary
from scheduler.store import tickets

if TYPE_CHECKING:
    from scheduler.redis.hints import Hints
    from scheduler.store.claims import Claim
    from scheduler.store.database import Database
    from tasks.patience import Patience

log = structlog.get_logger(__name__)

# A quarter of its time to live: three signs of life may be lost before a ticket is taken for dead.
_SIGNS_PER_TTL: Final = 4
_SHORTEST_S: Final = 0.05


class WaitingRoom:
    """Callers of this process that wait for a worker. Fork-safe: a child listens for itself."""

    def __init__(self, db: Database, hints: Hints, *, ttl_s: float, at_most: int) -> None:
        self._db = db
        self._hints = hints
        self._ttl = timedelta(seconds=ttl_s)
        self._period_s = ttl_s / _SIGNS_PER_TTL
        self._at_most = at_most
        self._changed = threading.Condition()
        self._waiting: dict[int, threading.Event] = {}
        self._early: dict[int, None] = {}  # granted before their callers sat down; in order, bounded
        self._pid = 0
        self._key = ""

    @property
    def wake_key(self) -> str:
        """Where this process listens; to be written on its tickets."""
        with self._changed:
            self._start()
            return self._key

    def wait(self, ticket: int, patience: Patience) -> Claim | None:
        """Block until the ticket is granted or the caller's patience is over; the ticket is gone afterwards.

        Raises:
            Refused: this process already waits for as many claims as it may.
        """
        granted = threading.Event()
        if not self._sit_down(ticket, granted):
            claim = tickets.give_back(self._db, ticket)
            if claim is not None:
                return claim
            what = "too many claims wait in this process"
            remedy = "raise bounds.waiters_per_process or claim from another process"
            raise Refused(what, expected=f"at most {self._at_most}", remedy=remedy)
        try:
            with patience.woken_by(granted.set):
                granted.wait(patience.left_s())
        finally:
            with self._changed:
                self._waiting.pop(ticket, None)
                self._early.pop(ticket, None)
            claim = tickets.give_back(self._db, ticket)
        return claim

    def _sit_down(self, ticket: int, granted: threading.Event) -> bool:
        with self._changed:
            self._start()
            if len(self._waiting) >= self._at_most:
                return False
            self._waiting[ticket] = granted
            if ticket in self._early:
                granted.set()
            self._changed.notify()
            return True

    def _start(self) -> None:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._key = self._hints.wake_key(uuid.uuid4().hex)
            self._waiting = {}
            threading.Thread(target=self._listen, name="stoker-waiting-room", daemon=True).start()

    def _listen(self) -> None:
        sign_due = 0.0
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                    # The first ticket is as young as can be.
                    sign_due = time.monotonic() + self._period_s
            try:
                if time.monotonic() >= sign_due:
                    self._say_we_live()
                    sign_due = time.monotonic() + self._period_s
                self._tell(self._hints.next_wake(self._key, max(_SHORTEST_S, sign_due - time.monotonic())))
            except Exception as error:  # noqa: BLE001 - whatever it is, all callers of this process depend on this thread
                log.warning("no wake-ups; signs of life find the grants", error=repr(error))
                with self._changed:
                    self._changed.wait(max(_SHORTEST_S, sign_due - time.monotonic()))

    def _say_we_live(self) -> None:
        with self._changed:
            ours = list(self._waiting)
        try:
            known = tickets.keep_alive(self._db, ours, self._ttl)
        except Temporary as error:
            log.warning("signs of life not heard", error=str(error))
            return
        # Granted without a wake-up, or no longer there at all: in both cases its caller must look.
        self._tell([ticket for ticket in ours if known.get(ticket, True)])

    def _tell(self, granted: list[int]) -> None:
        with self._changed:
            for ticket in granted:
                if (event := self._waiting.get(ticket)) is not None:
                    event.set()
                else:
                    self._early[ticket] = None
            while len(self._early) > self._at_most:
                self._early.pop(next(iter(self._early)))
