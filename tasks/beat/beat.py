"""One beat: it holds the lease or stands by, and sends what is due. It outlives both engines.

A round takes the lease or renews it, sends what was claimed and may not have been sent, claims and sends what is due, and sleeps
until the next is due or somebody edits the schedule. Whatever it waits for is bounded by the lease.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Final

import structlog

from scheduler.core.schedule import plan
from scheduler.errors import Temporary
from scheduler.redis.queues.once import KNOWN_S, Said
from scheduler.store import beat, revision
from scheduler.store.schedule import CHANNEL
from scheduler.store.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from scheduler.core.schedule import Scheduled, Tick
    from scheduler.store.beat import Claimed
    from scheduler.store.database import Connection
    from scheduler.store.entries import Entry
    from tasks.beat.publisher import Publisher

# How often one that stands by looks whether it is needed.
STANDBY_S: Final = 0.5
# Between attempts while an engine is away: doubled, at most as long as a lease may go without being renewed.
_FIRST_WAIT_S: Final = 0.1
# One that holds the lease and cannot reach Redis for so long lets another try: it may be this host alone that is cut off.
GIVE_UP_S: Final = beat.LEASE_S
_BATCH: Final = 100

log = structlog.get_logger(__name__)


class Beat:
    """Made by each `celery beat`. Opens nothing until its first round."""

    def __init__(self, dsn: str, publisher: Publisher) -> None:
        self._session = Session(dsn, CHANNEL, answer_s=beat.LEASE_S - beat.RENEW_S)
        self._publisher = publisher
        self._epoch: int | None = None
        self._renewed = 0.0
        self._undone = True  # ticks that were claimed may not have been sent
        self._is_checked = False
        self._away: str | None = None  # the engine that did not answer
        self._away_since = 0.0
        self._gave_up = False
        self._wait_s = _FIRST_WAIT_S
        self._faults: dict[str, int] = {}

    def round(self) -> float:
        """One round. Seconds for which the caller is to sleep, while an engine is away; else 0, for a round sleeps itself.

        Raises:
            Permanent: the tables are older than this version.
        """
        try:
            self._round()
        except Temporary as error:
            return self._wait_for(error)
        # One that gave up knows that the engine is back when it sends.
        if self._away is not None and (self._epoch is not None or not self._gave_up):
            log.info("beat goes on", after=self._away)
            self._away, self._gave_up, self._wait_s = None, False, _FIRST_WAIT_S
        return 0.0

    def _wait_for(self, error: Temporary) -> float:
        """What to do while an engine is away: seconds until the next attempt."""
        now = time.monotonic()
        if self._away != error.what:
            self._away, self._away_since = error.what, now
            log.warning("beat waits: what is due meanwhile is sent once it is back", error=str(error))
        if not self._session.is_open:
            self._epoch = None  # it was this session's
        elif now - self._away_since > GIVE_UP_S:
            if not self._gave_up:
                log.warning("this beat lets another try", error=str(error))
            self._session.close()
            self._epoch, self._gave_up = None, True
            return 2 * STANDBY_S
        wait_s, self._wait_s = self._wait_s, min(2 * self._wait_s, beat.RENEW_S)
        return wait_s

    def _round(self) -> None:
        if not self._is_checked:
            revision.check_not_older(self._session.run(revision.revision))
            self._is_checked = True
        if not (self._renew() or self._take()):
            self._session.wait(STANDBY_S)
            return
        entries, now = self._session.run(beat.look)
        looked = time.monotonic()
        if self._undone:
            self._send_undone(now)
        planned = plan(self._sendable(entries), now)
        known = {entry.name: entry for entry in entries}
        for tick in planned.ticks:
            if not self._renew():
                return
            claimed = self._session.run(self._claiming(known[tick.name], tick))
            if claimed is not None:
                if tick.missed:
                    log.warning("no beat ran when it was due", entry=tick.name, missed=tick.missed)
                self._send(claimed)
        rest_s = self._renewed + beat.RENEW_S - time.monotonic()
        if planned.wake_at is not None:
            rest_s = min(rest_s, looked + (planned.wake_at - now).total_seconds() - time.monotonic())
        self._session.wait(rest_s)

    def _renew(self) -> bool:
        """Whether this beat sends: at most a second ago the database said so."""
        epoch = self._epoch
        if epoch is None:
            return False
        now = time.monotonic()
        if now - self._renewed < beat.RENEW_S:
            return True
        if self._session.run(lambda connection: beat.renew(connection, epoch)):
            self._renewed = now
            return True
        self._lose()
        return False

    def _take(self) -> bool:
        """Take the lease, if nobody has it."""
        now = time.monotonic()
        if self._session.run(beat.is_held):
            return False
        self._epoch = self._session.run(lambda connection: beat.acquire(connection, socket.gethostname(), os.getpid()))
        if self._epoch is None:
            return False
        log.info("this beat sends", epoch=self._epoch)
        # What the one before had claimed, and nobody knows whether it was sent.
        self._renewed, self._away_since, self._undone = now, now, True
        return True

    def _lose(self) -> None:
        log.warning("another beat has taken over; this one stands by", epoch=self._epoch)
        self._epoch = None

    def _send_undone(self, now: datetime) -> None:
        batch = self._session.run(lambda connection: beat.undone(connection, _BATCH))
        settled = True
        for tick in batch:
            if (now - tick.claimed_at).total_seconds() < KNOWN_S:
                settled = self._send(tick) and settled
            else:
                self._done(tick, "claimed so long ago that nobody can know whether it was sent")
        self._undone = len(batch) == _BATCH or not settled

    def _send(self, tick: Claimed) -> bool:
        """Send it and note that; False: it is still to be sent, by this beat or another."""
        if not self._renew():
            return False
        assert self._epoch is not None, "renewed"
        self._undone = True
        error = None
        try:
            answer = self._publisher.send(tick, self._epoch)
        except Temporary:
            raise
        except Exception as failure:  # noqa: BLE001 - whatever Celery has against it, no other entry waits for that
            error = str(failure) or repr(failure)
            log.error("an entry cannot be sent", entry=tick.entry, task=tick.task, error=error)  # noqa: TRY400 - no fault of ours
        else:
            if answer.said is Said.OVER:
                self._lift(answer.epoch)
                return False
        self._done(tick, error)
        self._undone = False
        return True

    def _done(self, tick: Claimed, error: str | None) -> None:
        self._session.run(lambda connection: beat.done(connection, tick, error))
        self._publisher.forget(tick)

    def _lift(self, above: int) -> None:
        """Redis has seen a later sender: then SQL knows it as well, or Redis has it from another database."""
        epoch = self._epoch
        assert epoch is not None, "it was about to send"
        self._epoch = self._session.run(lambda connection: beat.lift(connection, epoch, above))
        if self._epoch is None:
            self._epoch = epoch
            self._lose()

    def _sendable(self, entries: Sequence[Entry]) -> list[Scheduled]:
        """Those that this version can send. Of each other one it is said once."""
        for entry in entries:
            if entry.fault and self._faults.get(entry.name) != entry.revision:
                self._faults[entry.name] = entry.revision
                log.error("an entry cannot be read, and is not sent", entry=entry.name, error=entry.fault)
        return [entry.scheduled for entry in entries if entry.scheduled is not None]

    def _claiming(self, entry: Entry, tick: Tick) -> Callable[[Connection], Claimed | None]:
        epoch = self._epoch
        assert epoch is not None, "renewed"
        return lambda connection: beat.claim(connection, entry, tick, epoch)
