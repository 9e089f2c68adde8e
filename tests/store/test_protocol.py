"""The whole protocol against a small model: whatever happens in whatever order, the invariants hold after each step."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from scheduler.core.capacity import plan_capacity
from scheduler.core.misses import MissReason
from scheduler.core.reap import plan_reap
from scheduler.core.states import CLAIMED, LIVE, WorkerState, may_become
from scheduler.store import claims, history, launches, reaping, slots, sweeping
from scheduler.store.claims import Claim
from tests.support.fleet import MINUTE, NO_TIME, SECOND, Fleet, handle

TENANTS = {"acme": 0, "globex": 2, "initech": 1}
NODES = ("a", "b", "c")
FLOOR = 2
S = WorkerState


@dataclass
class Known:
    """What the model knows of one worker."""

    state: WorkerState = S.SPAWNING
    epoch: int = 0
    tenant: str | None = None
    node: str | None = None

    def become(self, state: WorkerState) -> None:
        assert may_become(self.state, state)
        self.state = state


class Protocol(RuleBasedStateMachine):
    """Rules are what tasks, tenants and the world do; the model is a dictionary of workers."""

    fleet: Fleet

    @initialize()
    def begin(self) -> None:
        self.fleet.db.rows("delete from tickets; delete from workers; delete from claims; delete from tenants")
        self.fleet.db.rows("delete from events; delete from nodes")
        self.workers: dict[int, Known] = {}
        self.claims: list[Claim] = []
        self.nodes: list[str] = []
        self.closed: set[str] = set()
        for tenant, cap in TENANTS.items():
            self.fleet.tenant(tenant, cap)

    def chosen(self, data: st.DataObject, *states: WorkerState) -> int | None:
        able = [number for number, known in self.workers.items() if known.state in states]
        return data.draw(st.sampled_from(able)) if able else None

    def is_closed(self, number: int) -> bool:
        return self.workers[number].node in self.closed

    def idle(self, *, closed: bool) -> list[int]:
        return [n for n, known in self.workers.items() if known.state is S.IDLE and self.is_closed(n) == closed]

    def held(self, tenant: str) -> int:
        return sum(known.tenant == tenant and known.state in CLAIMED for known in self.workers.values())

    @rule()
    def reconcile(self) -> None:
        states = [known.state for known in self.workers.values()]
        expected = max(0, FLOOR - len(self.idle(closed=False)) - states.count(S.SPAWNING))
        _, made = slots.create(
            self.fleet.db,
            self.fleet.profile(),
            lambda seen, all_: plan_capacity(seen, FLOOR, all_.now, at_most=99),
            MINUTE,
        )
        assert len(made) == expected
        self.workers |= {slot.worker_id: Known() for slot in made}

    @rule(data=st.data(), node=st.sampled_from(NODES))
    def launch_and_become_ready(self, data: st.DataObject, node: str) -> None:
        number = self.chosen(data, S.SPAWNING)
        if number is None:
            return
        if self.workers[number].node is None:
            self.fleet.launch(slots.Slot(number, 0), node)
            self.workers[number].node = node
            if node not in self.nodes:
                self.nodes.append(node)
        if self.is_closed(number):
            assert self.fleet.ready(number)[0] is S.SPAWNING
            return
        assert self.fleet.ready(number)[0] is S.IDLE
        self.workers[number].become(S.IDLE)

    @precondition(lambda self: self.nodes)
    @rule(data=st.data(), close=st.booleans())
    def close_or_open_a_node(self, data: st.DataObject, close: bool) -> None:  # noqa: FBT001 - drawn
        node = data.draw(st.sampled_from(self.nodes))
        assert reaping.cordon(self.fleet.db, node, cordoned=close)
        if close:
            self.closed.add(node)
        else:
            self.closed.discard(node)

    @rule(tenant=st.sampled_from(sorted(TENANTS)), bind=st.booleans())
    def claim(self, tenant: str, bind: bool) -> None:  # noqa: FBT001 - drawn
        own = sorted(n for n, known in self.workers.items() if known.state is S.HOT_IDLE and known.tenant == tenant)
        idle = self.idle(closed=False)
        idle.sort(key=lambda n: (self.nodes.index(self.workers[n].node or ""), n))
        found = self.fleet.claim(tenant)
        if TENANTS[tenant] and self.held(tenant) >= TENANTS[tenant]:
            assert found is MissReason.TENANT_CAP
            return
        if not own and not idle:
            assert found is MissReason.NO_WARM
            return
        assert isinstance(found, Claim)
        assert found.worker_id == (own or idle)[0]
        known = self.workers[found.worker_id]
        known.become(S.ACTIVATING)
        known.tenant, known.epoch = tenant, known.epoch + 1
        assert found.epoch == known.epoch
        self.claims.append(found)
        if bind:
            assert claims.activated(self.fleet.db, found, MINUTE)
            known.become(S.ACTIVE)

    def is_live(self, claim: Claim) -> bool:
        known = self.workers[claim.worker_id]
        return known.epoch == claim.epoch and known.state in CLAIMED

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))  # an old one, too
        became = self.fleet.release(claim)
        if not self.is_live(claim):
            assert became is None
            return
        known = self.workers[claim.worker_id]
        stays = known.state is S.ACTIVE and not self.is_closed(claim.worker_id)
        assert became == (S.HOT_IDLE if stays else S.DRAINING)
        known.become(S(became))

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        renewed = claims.renew(self.fleet.db, claim.worker_id, claim.epoch, claim.tenant, MINUTE)
        assert renewed == (self.is_live(claim) and self.workers[claim.worker_id].state is S.ACTIVE)

    @rule(data=st.data())
    def time_runs_out(self, data: st.DataObject) -> None:
        number = self.chosen(data, S.ACTIVATING, S.ACTIVE, S.HOT_IDLE)
        expected = [] if number is None else [number]
        if number is not None:
            column = "hot_until" if self.workers[number].state is S.HOT_IDLE else "lease_until"
            self.fleet.backdate(column, number, timedelta(hours=1))
            self.workers[number].become(S.DRAINING)
        assert sweeping.expire(self.fleet.db, 99).draining == expected

    @rule(data=st.data())
    def process_dies(self, data: st.DataObject) -> None:
        number = self.chosen(data, *LIVE - {S.SPAWNING})
        if number is None or self.workers[number].node is None:
            return
        ended = launches.gone(self.fleet.db, number, handle(number), "killed")
        assert ended is not None
        expected = S.RETIRED if self.workers[number].state is S.DRAINING else S.LOST
        assert ended.state is expected
        self.workers[number].become(expected)
        assert launches.gone(self.fleet.db, number, handle(number), "killed") is None

    @rule(data=st.data(), gone=st.booleans())
    def spawn_fails(self, data: st.DataObject, gone: bool) -> None:  # noqa: FBT001 - drawn
        number = self.chosen(data, S.SPAWNING)
        if number is None:
            return
        after = launches.failed(self.fleet.db, number, "no", gone=gone, first=SECOND, longest=SECOND)
        assert after is (S.LOST if gone else S.DRAINING)
        self.workers[number].become(after)
        self.fleet.db.rows("update profiles set failures = 0, backoff_until = null")

    @rule()
    def reap(self) -> None:
        now, idle = reaping.idle_workers(self.fleet.db, self.fleet.profile())
        plan = [] if now is None else plan_reap(idle, FLOOR, NO_TIME, now, at_most=99)
        drained = reaping.drain_idle(self.fleet.db, self.fleet.profile(), plan, FLOOR, NO_TIME, "test")
        assert sorted(drained) == sorted(plan)
        shut, offered = len(self.idle(closed=True)), len(self.idle(closed=False))
        assert len(drained) == min(shut, max(0, shut + offered - FLOOR)) + max(0, offered - FLOOR)
        for number in drained:
            self.workers[number].become(S.DRAINING)

    @invariant()
    def rows_are_what_the_model_says(self) -> None:
        rows = self.fleet.db.rows("select id, state, epoch, tenant from workers")
        assert {row["id"]: (row["state"], row["epoch"], row["tenant"]) for row in rows} == {
            number: (known.state, known.epoch, known.tenant) for number, known in self.workers.items()
        }

    @invariant()
    def nobody_is_miscounted_doubly_claimed_or_mixed_up(self) -> None:
        db = self.fleet.db
        assert not history.double_claims(db)
        assert not history.cross_tenant(db)
        assert not history.miscounted_tenants(db)
        for row in db.rows("select name, live from tenants"):
            # Counted under a cap only.
            assert row["live"] == (self.held(row["name"]) if TENANTS[row["name"]] else 0)
            assert not TENANTS[row["name"]] or row["live"] <= TENANTS[row["name"]]


def test_the_protocol_follows_its_model(fleet: Fleet) -> None:
    machine = type("ProtocolHere", (Protocol,), {"fleet": fleet})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30,
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
