"""PostgreSQL itself refuses what must never be: each constraint stops a statement that passes once it is switched off."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from scheduler.store.tables import metadata
from tests.support.servers import Servers

RENEWED = "update workers set lease_until = now(), claimed_at = now(), asked_at = now(), origin = 'warm'"

# Everything that the statements below change; nothing in it violates anything.
ONE_OF_EACH = """
insert into profiles (name, family, spec, floor, max_workers) values ('duck@1', 'duck', '{}', 1, 0);
insert into tenants (name) values ('acme'), ('globex');
insert into tenants (name, max_workers, ceiling, live) values ('capped', 2, 2, 2);
insert into workers (profile) values ('duck@1');
insert into workers (profile, state, ready_at, endpoint, epoch) values ('duck@1', 'idle', now(), 'http://a:1', 3);
insert into workers (profile, state, ready_at, endpoint, epoch, tenant, lease_until, claimed_at, asked_at, origin)
    values ('duck@1', 'active', now(), 'http://b:1', 4, 'acme', now(), now(), now(), 'warm');
insert into workers (profile, state, ready_at, endpoint, epoch, tenant, hot_until)
    values ('duck@1', 'hot_idle', now(), 'http://c:1', 5, 'acme', now());
insert into workers (profile, state, ended_at) values ('duck@1', 'retired', now());
insert into tickets (tenant, profile, waiter, expires_at) values ('acme', 'duck@1', 'a', now());
"""

CHECKS = {
    # I1: a worker never has two claims, never serves two tenants; what is neutral knows none.
    "ck_workers_neutral_has_no_tenant": "update workers set tenant = 'acme' where state = 'idle'",
    "ck_workers_claimed_has_tenant": "insert into workers (profile, state, lease_until, claimed_at)"
    " values ('duck@1', 'active', now(), now())",
    "ck_workers_hot_idle_has_tenant": "insert into workers (profile, state, hot_until) values ('duck@1', 'hot_idle', now())",
    "ck_workers_claimed_has_lease": "update workers set lease_until = null, claimed_at = null where state = 'active'",
    "ck_workers_lease_has_claim": "update workers set claimed_at = null where state = 'active'",
    "ck_workers_hot_idle_ends": "update workers set hot_until = null where state = 'hot_idle'",
    "ck_workers_state_known": "insert into workers (profile, state, ended_at) values ('duck@1', 'resting', now())",
    "ck_workers_epoch_counts_up": "insert into workers (profile, epoch) values ('duck@1', -1)",
    "ck_workers_idle_is_reachable": "update workers set endpoint = null where state = 'idle'",
    "ck_workers_ended_is_not_live": "update workers set ended_at = null where state = 'retired'",
    "fk_workers_profile": "insert into workers (profile) values ('unheard of')",
    "ck_tenants_cap_is_no_debt": "insert into tenants (name, max_workers, ceiling) values ('x', -1, 1)",
    "ck_tenants_live_is_no_debt": "update tenants set live = -1 where name = 'capped'",
    "ck_tenants_live_under_cap": "update tenants set live = live + 1 where name = 'capped'",
    "ck_tenants_ceiling_follows_cap": "update tenants set ceiling = 3 where name = 'globex'",
    "ck_tenants_counted_under_a_cap": "update tenants set live = 1 where name = 'globex'",
    "ck_profiles_counts_are_no_debts": "update profiles set floor = -1",
    "ck_profiles_floor_under_cap": "update profiles set floor = 4, max_workers = 3",
    "ck_tickets_granted_whole": "update tickets set worker_id = 1, wake_key = 'k'",
    "ck_tickets_granted_to_a_listener": "update tickets set worker_id = 1, epoch = 1",
    "uq_tickets_tenant_profile_waiter": "insert into tickets (tenant, profile, waiter, expires_at)"
    " values ('acme', 'duck@1', 'a', now())",
    "uq_tickets_worker_id_epoch": "insert into tickets (tenant, profile, waiter, wake_key, expires_at, worker_id, epoch)"
    " values ('acme', 'duck@1', 'b', 'k', now(), 1, 1), ('acme', 'duck@1', 'c', 'k', now(), 1, 1)",
    "pk_claims": "insert into claims (worker_id, epoch, tenant, profile, origin, asked_at, claimed_at, ended_at, end_reason)"
    " select 1, 1, 'acme', 'duck@1', 'warm', now(), now(), now(), 'x' from generate_series(1, 2)",
    "ck_claims_origin_known": "insert into claims (worker_id, epoch, tenant, profile, origin, asked_at, claimed_at, ended_at,"
    " end_reason) values (1, 1, 'acme', 'duck@1', 'found', now(), now(), now(), 'x')",
    "ck_claims_time_runs_forward": "insert into claims (worker_id, epoch, tenant, profile, origin, asked_at, claimed_at,"
    " ended_at, end_reason) values (1, 1, 'acme', 'duck@1', 'warm', now(), now(), now() - interval '1 s', 'x')",
    "ck_installation_one_row": "insert into installation (singleton) values (false)",
}
UNIQUE_INDEXES = {
    "ux_profiles_current": "insert into profiles (name, family, spec, floor, max_workers) values ('duck@2', 'duck', '{}', 0, 0)",
}
# The rules of the one trigger `guard_worker`, which names the rule that it enforces as a constraint does.
RULES = {
    # I1: never two tenants in a life, not even with an end to the claim in between.
    "worker_serves_one_tenant": f"{RENEWED}, state = 'activating', hot_until = null, epoch = epoch + 1, tenant = 'globex'"
    " where state = 'hot_idle'",
    "worker_epoch_never_falls": "update workers set epoch = epoch - 1 where state = 'active'",
    "worker_claim_takes_a_new_epoch": f"{RENEWED}, state = 'activating', tenant = 'acme' where state = 'idle'",
    "worker_state_follows_the_table": f"{RENEWED}, state = 'active', tenant = 'acme' where state = 'idle'",
}


@pytest.fixture(scope="module")
def furnished(servers: Servers) -> Iterator[str]:
    with servers.database() as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(ONE_OF_EACH)
        yield url


@pytest.fixture
def connection(furnished: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """One transaction, rolled back: what a test switches off is on again for the next."""
    with psycopg.connect(furnished) as opened:
        yield opened
        opened.rollback()


def refused_by(connection: psycopg.Connection[tuple[object, ...]], statement: str) -> errors.Error:
    with pytest.raises(errors.IntegrityError) as refused, connection.transaction():
        connection.execute(statement)
    return refused.value


@pytest.mark.parametrize("name", CHECKS)
def test_a_constraint_refuses_what_passes_without_it(
    connection: psycopg.Connection[tuple[object, ...]], name: str
) -> None:
    assert refused_by(connection, CHECKS[name]).diag.constraint_name == name
    table = name.split("_")[1]
    connection.execute(f"alter table {table} drop constraint {name}")
    assert connection.execute(CHECKS[name]).rowcount > 0


@pytest.mark.parametrize("name", UNIQUE_INDEXES)
def test_an_index_refuses_what_passes_without_it(connection: psycopg.Connection[tuple[object, ...]], name: str) -> None:
    assert refused_by(connection, UNIQUE_INDEXES[name]).diag.constraint_name == name
    connection.execute(f"drop index {name}")
    assert connection.execute(UNIQUE_INDEXES[name]).rowcount > 0


@pytest.mark.parametrize("name", RULES)
def test_the_guard_refuses_what_passes_without_it(
    connection: psycopg.Connection[tuple[object, ...]], name: str
) -> None:
    assert refused_by(connection, RULES[name]).diag.constraint_name == name
    connection.execute("alter table workers disable trigger guard_worker")
    assert connection.execute(RULES[name]).rowcount == 1


def test_every_constraint_of_the_tables_is_tried_here() -> None:
    named = {str(c.name) for table in metadata.sorted_tables for c in table.constraints if not _is_key(str(c.name))}
    assert named <= set(CHECKS)


def test_every_trigger_of_the_database_is_tried_here(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    found = connection.execute("select tgname from pg_trigger where not tgisinternal").fetchall()
    assert {str(name) for (name,) in found} == {"guard_worker"}


def _is_key(name: str) -> bool:
    return name.startswith("pk_")
