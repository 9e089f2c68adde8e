"""PostgreSQL serves in the order of the model, after any interleaving of what may happen in between."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from scheduler.core.rotation import Waiting, serving_order
from scheduler.store import tickets
from tests.support.fleet import MINUTE, Fleet
from tests.support.servers import Servers

TENANTS = ("acme", "globex", "initech", "umbrella")
tenants = st.sampled_from(TENANTS)


class Rotation(RuleBasedStateMachine):
    """Before each grant the model reads what there is and says who is next; PostgreSQL must say the same."""

    servers: Servers
    fleet: Fleet

    @initialize(caps=st.tuples(*[st.integers(0, 3)] * len(TENANTS)))
    def begin(self, caps: tuple[int, ...]) -> None:
        self.asked = 0
        self.fleet.db.rows("delete from tickets")
        self.fleet.db.rows("delete from workers")
        self.fleet.db.rows("delete from tenants")
        for tenant, cap in zip(TENANTS, caps, strict=True):
            self.fleet.tenant(tenant, cap)

    @rule(tenant=tenants)
    def wait(self, tenant: str) -> None:
        self.asked += 1
        self.fleet.ticket(tenant, f"job-{self.asked}")

    @rule(tenant=tenants)
    def give_up(self, tenant: str) -> None:
        self.fleet.db.rows(
            "delete from tickets where id = (select min(id) from tickets where tenant = %(tenant)s)", tenant=tenant
        )

    @rule(tenant=tenants)
    def end_a_claim(self, tenant: str) -> None:
        self.fleet.db.rows(
            "select move_worker(id, epoch, array['activating'], 'draining', 'test') from workers where id ="
            " (select min(id) from workers where tenant = %(tenant)s and state = 'activating')",
            tenant=tenant,
        )

    @rule(workers=st.integers(1, 6))
    def workers_become_ready(self, workers: int) -> None:
        launched = self.fleet.launched(workers)
        expected = self._model(workers)
        note(f"expected {expected}")
        granted = [grant.ticket_id for _, grant in map(self.fleet.ready, launched) if grant is not None]
        assert granted == expected

    @rule(workers=st.integers(1, 6))
    def a_backlog_is_offered_at_once(self, workers: int) -> None:
        self.fleet.db.rows("update profiles set draining = false")
        # Idle already when the tickets come: raw, for every path that parks a worker also grants it.
        self.fleet.db.rows(
            "insert into workers (profile, state, ready_at, endpoint) select %(profile)s, 'idle', now(), 'http://x:1'"
            " from generate_series(1, %(count)s)",
            profile=self.fleet.profile(),
            count=workers,
        )
        expected = self._model(self._idle())
        granted = tickets.grant(self.fleet.db, self.fleet.profile(), lease=MINUTE, at_most=99)
        assert [grant.ticket_id for grant in granted] == expected

    def _model(self, workers: int) -> list[int]:
        rows = self.fleet.db.rows(
            "select id, tenant, extract(epoch from asked_at)::float as asked from tickets where worker_id is null"
        )
        facts = self.fleet.db.rows(
            "select name, extract(epoch from turn_at)::float as turn, max_workers, live,"
            " extract(epoch from clock_timestamp())::float as now from tenants"
        )
        return serving_order(
            [Waiting(row["id"], row["tenant"], row["asked"]) for row in rows],
            {fact["name"]: fact["turn"] for fact in facts if fact["turn"] is not None},
            {fact["name"]: fact["max_workers"] - fact["live"] if fact["max_workers"] else None for fact in facts},
            facts[0]["now"],
            workers,
        )

    def _idle(self) -> int:
        row: dict[str, Any] | None = self.fleet.db.row("select count(*)::int as n from workers where state = 'idle'")
        assert row is not None
        return int(row["n"])

    def teardown(self) -> None:
        held = self.fleet.db.rows("select name from tenants where max_workers > 0 and live > max_workers")
        assert not held


def test_grants_follow_the_model_of_the_rotation(fleet: Fleet) -> None:
    machine = type("RotationHere", (Rotation,), {"fleet": fleet})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
