"""One tenant of the ramp: asks for a worker, works on it at a steady rate, tries what it must not, and leaves."""

from __future__ import annotations

import http.client
import time
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Final

from demo.client import SqlClient, is_served
from demo.queries import QUESTIONS
from demo.record import Hold
from tasks.pool import Held

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

    from demo.doors import Door
    from demo.journal import Journal

WAIT_S: Final = 60.0  # how long a tenant is prepared to wait for a worker
QUERY_EVERY_S: Final = 0.4
RENEWALS_PER_LEASE: Final = 3
REFUSED_WITHIN_S: Final = 10.0  # after a lease ran out: the sweep that ends the claim, and a busy machine


@dataclass(frozen=True)
class Stage:
    """What all tenants share."""

    journal: Journal
    answers: Mapping[str, list[list[object]]]
    over: threading.Event  # set when the run is broken off


@dataclass(frozen=True, slots=True)
class _Claimed:
    held: Held
    claim_ms: float
    began_s: float


class Tenant:
    """A client with a name. Each of its methods blocks for as long as what it does takes."""

    def __init__(self, number: int, stage: Stage) -> None:
        self.name = f"tenant-{number:02d}"
        self.number = number
        self._stage = stage
        self._journal = stage.journal
        self._questions = islice(cycle(QUESTIONS), number, None)

    def visit(self, door: Door, seconds: float, served: threading.Semaphore | None = None) -> None:
        """Claim, work for so long, release, and see that the token is void then. `served` counts the claim."""
        claimed = self._claim(door)
        if served is not None:
            served.release()
        if claimed is None:
            return
        self._work(door, claimed, seconds)
        # Before the call: from its beginning on, the worker may be another's.
        self._journal.held(self._hold(door, claimed, self._journal.now_s()))
        if door.release(claimed.held) is None:
            self._journal.failed(
                f"{self.name}: the claim on worker {claimed.held.worker_id} had ended before its release"
            )
        self._journal.tried_ended(served=is_served(claimed.held.endpoint, self.name, claimed.held.token))

    def vanish(self, door: Door, seconds: float, served: threading.Semaphore) -> None:
        """Claim, work for so long, and never be heard of again; then see that the claim has ended by itself."""
        claimed = self._claim(door)
        served.release()
        if claimed is None:
            return
        heard_s = self._work(door, claimed, seconds)
        end_s = heard_s + claimed.held.lease_s
        self._journal.held(self._hold(door, claimed, end_s))
        self.away(end_s - self._journal.now_s())
        deadline_s = end_s + REFUSED_WITHIN_S
        while served_still := is_served(claimed.held.endpoint, self.name, claimed.held.token):
            if self._journal.now_s() > deadline_s or self._stage.over.wait(QUERY_EVERY_S):
                break
        self._journal.tried_ended(served=served_still)
        if door.renew(claimed.held):
            self._journal.failed(f"{self.name}: a claim was renewed after its lease had run out")

    def look_in(self, door: Door) -> bool:
        """Ask for one more worker without waiting, as a client does that will not come back. Whether it missed."""
        outcome = door.claim(self.name, 0.0)
        if isinstance(outcome, Held):
            door.release(outcome)
            return False
        self._journal.walked_away()
        return True

    def away(self, seconds: float) -> None:
        """Do nothing for so long."""
        self._stage.over.wait(max(0.0, seconds))

    def _claim(self, door: Door) -> _Claimed | None:
        asked = time.perf_counter()
        outcome = door.claim(self.name, WAIT_S)
        claim_ms = (time.perf_counter() - asked) * 1000
        began_s = self._journal.now_s()
        if isinstance(outcome, Held):
            self._journal.holds(outcome)
            return _Claimed(outcome, claim_ms, began_s)
        self._journal.failed(f"{self.name}: no worker within {WAIT_S:g} s: {outcome.reason}")
        return None

    def _work(self, door: Door, claimed: _Claimed, seconds: float) -> float:
        """Query at a steady rate and renew in time; when the worker was last heard to be ours, in the journal's seconds."""
        held, began_s, heard_s = claimed.held, claimed.began_s, claimed.began_s
        renew_every_s = held.lease_s / RENEWALS_PER_LEASE
        # Spread over the period, or thirty tenants served at once would query in step.
        next_s = began_s + QUERY_EVERY_S * (self.number % RENEWALS_PER_LEASE) / RENEWALS_PER_LEASE
        trespass_s = began_s + seconds / 2
        with SqlClient(held.endpoint, self.name, held.token) as client:
            while (now_s := self._journal.now_s()) < began_s + seconds:
                if self._stage.over.wait(max(0.0, next_s - now_s)):
                    break
                # Late, it goes on from here: a backlog worked off at once would be no steady rate.
                next_s = max(next_s + QUERY_EVERY_S, self._journal.now_s())
                self._ask(client, held)
                if self._journal.now_s() >= trespass_s:
                    trespass_s = float("inf")
                    self._trespass(held)
                if self._journal.now_s() - heard_s >= renew_every_s:
                    said_s = self._journal.now_s()
                    if not door.renew(held):
                        self._journal.failed(f"{self.name}: worker {held.worker_id} was lost in the middle of the work")
                        break
                    heard_s = said_s
        return heard_s

    def _ask(self, client: SqlClient, held: Held) -> None:
        question = next(self._questions)
        began = time.perf_counter()
        try:
            answer = client.ask(question.sql)
        except (OSError, http.client.HTTPException) as error:
            self._journal.failed(f"{self.name}: worker {held.worker_id} did not answer: {error!r}")
            return
        elapsed_ms = (time.perf_counter() - began) * 1000
        expected = self._stage.answers[question.sql]
        wrong = None if answer.served and answer.rows == expected else f"{question.asks} {answer.error or answer.rows}"
        self._journal.asked(elapsed_ms, wrong)

    def _trespass(self, held: Held) -> None:
        """Try this tenant's token on the worker of another, under its own name and under the other's."""
        other = self._journal.somebody_else(self.name)
        if other is not None:
            for name in (self.name, other.tenant):
                self._journal.tried_foreign(served=is_served(other.endpoint, name, held.token))

    @staticmethod
    def _hold(door: Door, claimed: _Claimed, ended_s: float) -> Hold:
        held = claimed.held
        return Hold(
            tenant=held.tenant,
            worker_id=held.worker_id,
            epoch=held.epoch,
            endpoint=held.endpoint,
            origin=held.origin,
            door=door.name,
            claim_ms=claimed.claim_ms,
            began_s=claimed.began_s,
            ended_s=ended_s,
        )
