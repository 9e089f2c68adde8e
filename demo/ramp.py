"""The ramp: thirty tenants ask at once, work, leave, come back; then all is quiet and the pool must return to its floor."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from demo.doors import CeleryDoor, LibraryDoor
from demo.record import Phase, Sample
from demo.tenant import Stage, Tenant
from scheduler.errors import StokerError
from scheduler.store import claims
from scheduler.store.claims import UnknownTenantError

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.profile import Profile
    from demo.doors import Door
    from demo.journal import Journal
    from demo.sampler import Sampler
    from tasks.context import Context

TENANTS: Final = 30
LATE: Final = 10  # of them, those that come back when their worker's hot idle is over
VANISHING: Final = 1  # and those that fall silent
BY_CELERY: Final = 4  # of those that come back soon, those that do so by Celery task
LOOKING_IN: Final = 4  # of those, the ones that ask for a second worker and walk away
LOOKS: Final = 3  # times that each of them asks: still one demand

FIRST_VISIT_S: Final = 6.0
SECOND_VISIT_S: Final = 6.0
LATE_VISIT_S: Final = 3.0
SOON_S: Final = 1.2
STAGGER_S: Final = 0.08
# The late ones have taken what is idle by then, and new workers are not ready yet.
LOOK_IN_AFTER_S: Final = 0.12

FLOOR_S_MAX: Final = 60.0
SERVED_S_MAX: Final = 90.0
EBB_S_MAX: Final = 45.0
CALM_S: Final = 1.0

REHEARSALS: Final = 4  # a statement is prepared at its third run on a connection
REHEARSING: Final = "rehearsal"


@dataclass(frozen=True, slots=True)
class Burst:
    """The instant at which all ask, by the journal's clock and by the database's (seconds of its epoch)."""

    at_s: float
    at: float


class Ramp:
    """One run of it. `say` is told what begins."""

    def __init__(
        self, context: Context, kind: Profile, stage: Stage, sampler: Sampler, say: Callable[[str], None]
    ) -> None:
        self._context = context
        self._kind = kind
        self._stage = stage
        self._journal: Journal = stage.journal
        self._sampler = sampler
        self._say = say
        self._library: Door = LibraryDoor(context.pool)
        self._celery: Door = CeleryDoor(context.app, context.settings)
        self._tenants = [Tenant(number, stage) for number in range(1, TENANTS + 1)]
        self._start = threading.Barrier(TENANTS + 1)
        self._served = threading.Semaphore(0)
        self._return = threading.Barrier(LATE + 1)
        self.phases: list[Phase] = []

    def run(self) -> tuple[Burst, bool]:
        """Play it to its end: when the burst began, and whether the pool came back to its floor.

        Raises:
            StokerError: the floor did not come up, or the tenants did not get through their parts.
        """
        try:
            return self._play_out()
        except threading.BrokenBarrierError:
            what = "the ramp broke off"
            raise StokerError(
                what,
                expected=f"each part done by all tenants within {SERVED_S_MAX:g} s",
                got="; ".join(self._journal.seen.failures) or "no answer from some of them",
                remedy="see the logs; on a busy machine, try again",
            ) from None

    def _play_out(self) -> tuple[Burst, bool]:
        self._begin("floor fills")
        if not self._sampler.wait_for(self._at_floor, FLOOR_S_MAX):
            what = "the floor did not fill"
            raise StokerError(
                what, expected=f"{self._kind.floor} idle workers within {FLOOR_S_MAX:g} s", remedy="see the logs"
            )
        threads = [self._play(tenant, life) for tenant, life in zip(self._tenants, self._lives(), strict=True)]
        burst = self._burst()
        self._wait_until_served()
        self._begin("steady work")
        self._return.wait(SERVED_S_MAX)
        self._begin("leave and return")
        self._look_in()
        for thread in threads:
            thread.join()
        self._begin("load falls")
        back_at_floor = self._sampler.wait_for(self._at_floor, EBB_S_MAX)
        # It must stay there, and the plot must show it.
        self._stage.over.wait(CALM_S)
        return burst, back_at_floor and self._sampler.wait_for(self._at_floor, CALM_S)

    def _break_off(self) -> None:
        """Have every tenant stop where it stands."""
        self._stage.over.set()
        for barrier in (self._start, self._return):
            barrier.abort()
        self._served.release(TENANTS)

    def _burst(self) -> Burst:
        row = self._context.db.row("select extract(epoch from clock_timestamp())::float as at")
        assert row is not None, "a select without a table returns one row"
        burst = Burst(self._journal.now_s(), row["at"])
        self._begin("burst")
        self._start.wait(SERVED_S_MAX)
        return burst

    def _wait_until_served(self) -> None:
        """Until each tenant's first claim has had its answer. They do not wait for each other: leases run."""
        deadline_s = self._journal.now_s() + SERVED_S_MAX
        for _ in range(TENANTS):
            in_time = self._served.acquire(timeout=max(0.0, deadline_s - self._journal.now_s()))
            if not in_time or self._stage.over.is_set():
                raise threading.BrokenBarrierError

    def _lives(self) -> list[Callable[[Tenant], None]]:
        """What each tenant does, in the order of their numbers."""
        by_library = TENANTS - BY_CELERY - LATE - VANISHING
        lives: list[Callable[[Tenant], None]] = [self._soon] * by_library
        return lives + [self._soon_by_celery] * BY_CELERY + [self._late] * LATE + [self._vanishing] * VANISHING

    def _soon(self, tenant: Tenant, door: Door | None = None) -> None:
        tenant.visit(self._library, FIRST_VISIT_S + self._stagger(tenant), self._served)
        tenant.away(SOON_S)
        tenant.visit(door or self._library, SECOND_VISIT_S)

    def _soon_by_celery(self, tenant: Tenant) -> None:
        self._soon(tenant, self._celery)

    def _late(self, tenant: Tenant) -> None:
        tenant.visit(self._library, FIRST_VISIT_S - 1.0, self._served)
        # Over for the claim at once; the sweep that stops the worker follows within its period.
        tenant.away(self._kind.hot_idle_s + 0.3)
        self._return.wait()
        tenant.visit(self._library, LATE_VISIT_S + self._stagger(tenant))

    def _vanishing(self, tenant: Tenant) -> None:
        tenant.vanish(self._library, FIRST_VISIT_S, self._served)

    def _stagger(self, tenant: Tenant) -> float:
        return STAGGER_S * tenant.number

    def _look_in(self) -> None:
        """Some tenants ask again and again for one more worker, and never come back for it: the ebb has something to reap."""
        self._stage.over.wait(LOOK_IN_AFTER_S)
        asking = self._tenants[:LOOKING_IN]
        for _ in range(LOOKS):
            asking = [tenant for tenant in asking if tenant.look_in(self._library)]

    def _play(self, tenant: Tenant, life: Callable[[Tenant], None]) -> threading.Thread:
        def play() -> None:
            try:
                self._rehearse()
                self._start.wait()
                life(tenant)
            except threading.BrokenBarrierError:
                pass  # the run was broken off
            except Exception as error:  # noqa: BLE001 - whatever ended it, the run goes on and the report says so
                if not self._stage.over.is_set():
                    self._journal.failed(f"{tenant.name}: {error!r}")
                    self._break_off()

        thread = threading.Thread(target=play, name=tenant.name, daemon=True)
        thread.start()
        return thread

    def _rehearse(self) -> None:
        """Run the claim's statement for a tenant that does not exist: it changes nothing, and the connection is warm then."""
        for _ in range(REHEARSALS):
            with suppress(UnknownTenantError):
                claims.claim(
                    self._context.db,
                    REHEARSING,
                    self._kind.canonical,
                    waiter="",
                    lease=timedelta(seconds=self._kind.lease_s),
                )
            time.sleep(0.02)

    def _at_floor(self, sample: Sample) -> bool:
        return sample.workers["idle"] == self._kind.floor == sample.live and sample.waiting == 0

    def _begin(self, name: str) -> None:
        self.phases.append(Phase(name, self._journal.now_s()))
        self._say(name)
