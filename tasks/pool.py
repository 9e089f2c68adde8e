"""The pool as its users see it: claim a worker, renew, release. Celery tasks and the CLI offer the same."""

from __future__ import annotations

import re
import secrets
import time
import uuid
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from config.profile import NAME_PATTERN, Profile
from scheduler.core.misses import MissReason
from scheduler.errors import Refused, check_wait, unknown
from scheduler.store import claims, tickets
from scheduler.store.claims import Claim, UnknownTenantError
from tasks import correlation, traces
from tasks.activation import ActivationFailed, activate, deactivate
from tasks.inputs import check_input
from tasks.patience import Patience, patience
from tasks.tallying import Tallies
from tasks.waiting import WaitingRoom

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from config.settings import Settings
    from scheduler.redis.hints import Hints
    from scheduler.store.database import Database, Row

log = structlog.get_logger(__name__)

_NAME: Final = re.compile(NAME_PATTERN)
# Workers that turn out broken when they are bound, before the claim says so to its caller.
_BINDING_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Held:
    """A worker bound to its tenant: use it at `endpoint` with `token`, renew within `lease_s`, release with `epoch`."""

    tenant: str
    profile: str
    worker_id: int
    epoch: int
    endpoint: str
    node: str | None
    origin: str
    lease_s: float
    token: str = field(repr=False)
    correlation_id: str = ""  # by which logs, events and traces of it are found

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"outcome": "held", **asdict(self)}


@dataclass(frozen=True, slots=True)
class Miss:
    """No worker, and why. A no_warm miss left a ticket, so more workers are on their way."""

    tenant: str
    profile: str
    reason: MissReason
    correlation_id: str = ""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"outcome": "miss", **asdict(self)}


class Pool:
    """Claims on warm workers. One a process; safe for threads."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        hints: Hints,
        *,
        request_reconcile: Callable[[str], None],
        request_stop: Callable[[Iterable[int]], None],
    ) -> None:
        self._settings = settings
        self._db = db
        self._hints = hints
        self._request_reconcile = request_reconcile
        self._request_stop = request_stop
        self._room = WaitingRoom(
            db, hints, ttl_s=settings.timeouts.waiter_ttl_s, at_most=settings.bounds.waiters_per_process
        )
        self.tallies = Tallies(db)

    def claim(
        self,
        tenant: str,
        profile: str,
        *,
        wait_s: float = 0.0,
        waiter: str = "",
        correlation_id: str = "",
        task_id: str = "",
    ) -> Held | Miss:
        """Take a worker for the tenant, waiting in turn for at most `wait_s` seconds.

        A caller that does not wait leaves a ticket that lives two ticks; asking again under the same `waiter` keeps that one
        ticket, so a thousand retries are one demand. A waiting call is a demand of its own. `correlation_id` names the story
        that begins here; by default that of the task it is a part of, else a new one. The wait of a task that says its
        `task_id` can be ended by that (tasks/patience.py).

        Raises:
            Refused: a malformed or unknown name, a wait out of bounds, or no correlation id.
            Temporary: the database did not answer.
        """
        kind = self._profile(profile)
        self._check(tenant, wait_s)
        check_input("waiter", waiter)
        waiter = waiter or (uuid.uuid4().hex if wait_s > 0 else "")
        with (
            correlation.within(correlation.chosen(correlation_id)),
            traces.span("claim", tenant=tenant, profile=profile, wait_s=wait_s),
            patience(wait_s, task_id) as left,
        ):
            return self._counted(tenant, kind, waiter, left)

    def _counted(self, tenant: str, kind: Profile, waiter: str, left: Patience) -> Held | Miss:
        began = time.monotonic()
        outcome, reason = "failed", "error"
        try:
            answer = self._claim(tenant, kind, waiter, left)
            outcome, reason = ("held", answer.origin) if isinstance(answer, Held) else ("miss", str(answer.reason))
        except Refused:
            reason = "refused"
            raise
        finally:
            self.tallies.claim(kind.name, outcome, reason, time.monotonic() - began)
        worker = answer.worker_id if isinstance(answer, Held) else None
        traces.note(outcome=outcome, reason=reason, worker=worker)
        log.info("claim answered", tenant=tenant, profile=kind.name, outcome=outcome, reason=reason, worker=worker)
        return answer

    def _claim(self, tenant: str, kind: Profile, waiter: str, left: Patience) -> Held | Miss:
        found: Claim | MissReason = MissReason.NO_WARM
        for _ in range(_BINDING_TRIES):
            found = self._find(tenant, kind, waiter, left)
            if isinstance(found, MissReason):
                break
            if (held := self._bind(found, kind)) is not None:
                return held
        reason = found if isinstance(found, MissReason) else MissReason.NO_WARM
        return Miss(tenant, kind.name, reason, correlation.chosen())

    def renew(self, tenant: str, worker_id: int, epoch: int, profile: str) -> bool:
        """Keep the claim for another lease. False: it has ended; the worker must not be used any more."""
        lease = timedelta(seconds=self._profile(profile).lease_s)
        return claims.renew(self._db, worker_id, epoch, tenant, lease)

    def release(self, tenant: str, worker_id: int, epoch: int) -> str | None:
        """End the claim; what its worker became. None: it was not this claim's any more, and nothing changed."""
        row = claims.release(self._db, worker_id, epoch, tenant)
        if row is None:
            return None
        with correlation.within(row["correlation_id"]):
            self._released(tenant, worker_id, epoch, row)
        return str(row["became"])

    def _released(self, tenant: str, worker_id: int, epoch: int, row: Row) -> None:
        kind = self._settings.profile(row["profile"])
        log.info("released", tenant=tenant, worker=worker_id, epoch=epoch, became=row["became"])
        if row["became"] == "draining":
            self._request_stop([worker_id])
        elif kind is not None:
            try:
                deactivate(kind, row["endpoint"], row["activation_key"], tenant, epoch, "", kind.connect_s)
            except ActivationFailed as error:
                # Its token stays good for this tenant alone, until the worker is claimed again or its hot idle is over.
                log.warning("worker did not void its token", worker=worker_id, error=str(error))
        self.offer_to([tenant])

    def offer_to(self, tenants: Collection[str]) -> int:
        """Offer whatever these tenants wait for: they have room under their caps again. Matches made."""
        return self.offer(tickets.profiles_awaited_by(self._db, tenants))

    def offer(self, profiles: Iterable[str]) -> int:
        """Match waiting claims with free workers of these canonical profiles and wake their callers; matches made."""
        made = 0
        for profile in profiles:
            kind = self._settings.profile(profile)
            if kind is None:
                continue
            granted = tickets.grant(
                self._db, profile, lease=self.binding_lease(kind), at_most=self._settings.bounds.grants_per_round
            )
            made += len(granted)
            self.wake(granted)
        return made

    def wake(self, grants: list[tickets.Grant]) -> None:
        """Tell the callers of granted tickets, unless wake-ups are switched off."""
        if grants and self._settings.wake_ups:
            self._hints.wake(grants)

    def binding_lease(self, kind: Profile) -> timedelta:
        """How long a claim may take from its grant to its activation: its caller must notice, connect and activate."""
        return timedelta(seconds=self._settings.timeouts.waiter_ttl_s + kind.connect_s + kind.activate_s)

    def _find(self, tenant: str, kind: Profile, waiter: str, left: Patience) -> Claim | MissReason:
        """A worker at once, or in turn while its caller waits; else the reason, and a ticket where more workers would help."""
        found = self._ask(tenant, kind, waiter)
        if isinstance(found, Claim):
            return found
        waits = left.left_s() > 0 and found.may_wait
        while waits or found.is_demand:
            ticket = tickets.take(
                self._db,
                tenant,
                kind.canonical,
                waiter=waiter,
                wake_key=self._room.wake_key if waits else None,
                ttl=timedelta(seconds=self._settings.timeouts.waiter_ttl_s if waits else self._settings.ticket_ttl_s),
                at_most=self._settings.bounds.tickets_per_tenant,
                correlation_id=correlation.current(),
            )
            if ticket is None:
                return MissReason.QUEUE_FULL
            if found.is_demand:
                self._request_reconcile(kind.canonical)
            if not waits:
                return found
            self.offer([kind.canonical])
            claim = self._room.wait(ticket, left)
            if claim is not None:
                return claim
            # Out of time; or the ticket was taken for dead while we lived, and a new one is due.
            if left.left_s() <= 0:
                return found
        return found

    def _ask(self, tenant: str, kind: Profile, waiter: str) -> Claim | MissReason:
        ask = partial(
            claims.claim,
            self._db,
            tenant,
            kind.canonical,
            waiter=waiter,
            lease=self.binding_lease(kind),
            correlation_id=correlation.current(),
        )
        try:
            return ask()
        except UnknownTenantError:
            if not self._settings.tenants.admit_unknown and tenant not in self._settings.tenants.caps:
                raise
            claims.admit_tenant(self._db, tenant, self._settings.tenant_cap(tenant))
            return ask()

    def _bind(self, claim: Claim, kind: Profile) -> Held | None:
        token = secrets.token_urlsafe(32)
        try:
            activate(kind, claim.endpoint, claim.activation_key, claim.tenant, claim.epoch, token, kind.activate_s)
        except ActivationFailed as error:
            log.warning("worker could not be bound", worker=claim.worker_id, error=str(error))
            self._give_up(claim, "activation_failed")
            return None
        if not claims.activated(self._db, claim, timedelta(seconds=kind.lease_s)):
            return None
        return Held(
            tenant=claim.tenant,
            profile=kind.name,
            worker_id=claim.worker_id,
            epoch=claim.epoch,
            endpoint=claim.endpoint,
            node=claim.node,
            origin=claim.origin,
            lease_s=kind.lease_s,
            correlation_id=correlation.chosen(),
            token=token,
        )

    def _give_up(self, claim: Claim, reason: str) -> None:
        if claims.abandon(self._db, claim, reason):
            self._request_stop([claim.worker_id])
            self.offer_to([claim.tenant])

    def _profile(self, name: str) -> Profile:
        kind = self._settings.profile(name)
        if kind is None:
            known = sorted(self._settings.profiles)
            raise unknown("profile", name, known, "add it to [profiles] or name one of these")
        return kind

    def _check(self, tenant: str, wait_s: float) -> None:
        if not _NAME.fullmatch(tenant):
            what = "malformed tenant name"
            raise Refused(
                what,
                expected="1 to 63 of a-z, 0-9 and -, not at an end",
                got=repr(tenant)[:80],
                remedy="rename the tenant",
            )
        check_wait(wait_s, self._settings.timeouts.claim_wait_max_s)
