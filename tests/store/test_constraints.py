"""PostgreSQL itself refuses what must never be: each constraint stops a statement that passes once it is switched off."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from scheduler.store.schema import metadata
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
insert into operations (kind, target, queue, rank, plan, steps) values ('network.refresh', 'blue', 'user_facing', 2, '[1, 2]', 2);
insert into operations (kind, target, queue, rank, plan, steps, state, began_at, step)
    values ('network.create', 'blue', 'user_facing', 2, '[1, 2]', 2, 'running', now(), 1);
insert into operations (kind, target, queue, rank, plan, steps, state, step, ended_at)
    values ('network.create', 'red', 'user_facing', 2, '[1]', 1, 'succeeded', 1, now());
insert into operations (kind, target, queue, rank, plan, steps, state, unmet, dependent)
    values ('network.refresh', 'red', 'user_facing', 2, '[1]', 1, 'waiting', 1, true);
insert into operation_needs values (4, 2, true);
insert into runs (task, key, lane, queue, operation_id, task_id, attempt, served, lane_wait_s, lease_until)
    values ('step.x', 'k', 'l', 'q', 2, 'op2.1-x', 1, 1, 0, now());
insert into networks (name, vni, prefix, gateway_node) values ('blue', 1, '10.1.0.0/24', 'n1'), ('red', 2, '10.2.0.0/24', 'n1');
insert into network_nodes values ('blue', 'n1'), ('red', 'n1');
insert into interfaces (network, name, node, namespace, mac, address)
    values ('blue', 'web1', 'n1', 'web1', '02:53:74:00:00:01', '10.1.0.2'),
    ('red', 'web1', 'n1', 'web1', '02:53:74:00:00:02', '10.2.0.2');
insert into floating_addresses values ('192.0.2.1', 1);
insert into queues (name, rank, bound_s, reserve) values ('control', 0, 1, 0), ('spawn', 1, 5, 0.5), ('background', 2, 30, 0.25);
insert into schedule (name, settings, anchor_at, due_at) values ('nightly', '{"task": "a.b", "cadence": "1h", "zone": "UTC",
    "args": [], "kwargs": {}, "queue": null, "expires_s": null, "enabled": true}', now() - interval '1 h', now());
insert into beat_lease (epoch, host, pid, backend_pid, backend_start, since, renewed_at, until)
    values (7, 'h', 1, 1, now(), now(), now(), now() + interval '5 s');
insert into ticks (entry, due_at, task_id, task, args, kwargs, missed, epoch)
    values ('nightly', '2026-01-01Z', '6f0f4a1e-5c0e-5d0b-9c56-2f0b7e3d9a51', 'a.b', '[]', '{}', 0, 7);
"""
OPERATION = "insert into operations (kind, target, queue, rank, plan, steps"
TICK = "insert into ticks (entry, due_at, task_id, task, args, kwargs, missed, epoch"
INTERFACE = "insert into interfaces (network, name, node, namespace, mac, address) values "

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
    # A correlation id is searched for, and goes into a header, as it is.
    "ck_workers_correlation_is_short": "update workers set correlation_id = repeat('a', 65) where state = 'idle'",
    "ck_tickets_correlation_is_short": "update tickets set correlation_id = 'two words'",
    "ck_operations_correlation_is_short": "update operations set correlation_id = '' where id = 1",
    "pk_claims": "insert into claims (worker_id, epoch, tenant, profile, origin, asked_at, claimed_at, ended_at, end_reason)"
    " select 1, 1, 'acme', 'duck@1', 'warm', now(), now(), now(), 'x' from generate_series(1, 2)",
    "ck_claims_origin_known": "insert into claims (worker_id, epoch, tenant, profile, origin, asked_at, claimed_at, ended_at,"
    " end_reason) values (1, 1, 'acme', 'duck@1', 'found', now(), now(), now(), 'x')",
    "ck_claims_time_runs_forward": "insert into claims (worker_id, epoch, tenant, profile, origin, asked_at, claimed_at,"
    " ended_at, end_reason) values (1, 1, 'acme', 'duck@1', 'warm', now(), now(), now() - interval '1 s', 'x')",
    # I23, I28: what waits has not begun, what succeeded did all of its steps.
    "ck_operations_state_known": f"{OPERATION}, state) values ('k', 't', 'q', 0, '[]', 0, 'resting')",
    "ck_operations_step_in_plan": "update operations set step = 3 where state = 'running'",
    "ck_operations_steps_counted": f"{OPERATION}) values ('k', 't', 'q', 0, '[1]', 2)",
    "ck_operations_ended_has_time": f"{OPERATION}, state, began_at) values ('k', 't', 'q', 0, '[]', 0, 'failed', now())",
    "ck_operations_waits_for_somebody": "update operations set unmet = 0 where state = 'waiting'",
    "ck_operations_waits_as_dependent": "update operations set dependent = false where state = 'waiting'",
    "ck_operations_succeeded_whole": f"{OPERATION}, state, ended_at) values ('k', 't', 'q', 0, '[1]', 1, 'succeeded', now())",
    "ck_operations_queued_has_not_begun": "update operations set began_at = now() where state = 'queued'",
    "ck_operations_counts_are_no_debts": "update operations set asked = 0 where state = 'queued'",
    "ck_operation_needs_no_circle": "insert into operation_needs values (2, 4, true)",
    "fk_operation_needs_operation_id": "insert into operation_needs values (99, 1, true)",
    "fk_operation_needs_on_id": "insert into operation_needs values (4, -1, true)",
    "ck_runs_state_known": "insert into runs (task, key, lane, queue, operation_id, task_id, attempt, served, lane_wait_s,"
    " lease_until, state, ended_at) values ('t', 'k', 'm', 'q', 1, 'i', 1, 1, 0, now(), 'resting', now())",
    "ck_runs_ended_has_time": "update runs set ended_at = now()",
    "ck_runs_waits_are_no_debts": "update runs set defers = -1",
    "ck_runs_serves_somebody": "update runs set served = 0",
    "ck_runs_folded_somewhere": "update runs set folded_at_worker = folded + 1",
    "ck_tallies_counts_up": "insert into tallies values ('m', '{}', 1, -1, 0)",
    "ck_tallies_labels_have_names": "insert into tallies values ('m', '[]', 1, 1, 0)",
    "uq_networks_vni": "update networks set vni = 1",
    "ck_networks_vni_fits_the_wire": "update networks set vni = 16777216 where name = 'red'",
    "ck_networks_prefix_fits": "update networks set prefix = '10.2.0.0/30' where name = 'red'",
    "ex_networks_prefix": "update networks set prefix = '10.1.0.0/25' where name = 'red'",
    "fk_network_nodes_network": "insert into network_nodes values ('green', 'n1')",
    "fk_interfaces_network_node": f"{INTERFACE}('red', 'web9', 'n9', 'web9', '02:53:74:00:00:09', '10.2.0.9')",
    "ck_interfaces_mac_is_ours": "update interfaces set mac = '52:54:00:00:00:01' where network = 'red'",
    "fk_floating_addresses_interface_id": "insert into floating_addresses values ('192.0.2.9', 99)",
    "uq_floating_addresses_interface_id": "insert into floating_addresses values ('192.0.2.9', 1)",
    # I30: bounds and reserves that the order of the queues can be kept with.
    "uq_queues_rank": "update queues set rank = 1 where name = 'background'",
    "ck_queues_name_is_a_class": "insert into queues (name, rank, bound_s, reserve) values ('spawn@node1', 7, 1, 0)",
    "ck_queues_rank_is_no_debt": "update queues set rank = -1 where name = 'control'",
    "ck_queues_bound_fits": "update queues set bound_s = 'nan' where name = 'spawn'",
    "ck_queues_override_bound_fits": "update queues set override_bound_s = 0 where name = 'spawn'",
    "ck_queues_reserve_is_a_share": "update queues set reserve = -0.1 where name = 'spawn'",
    "ck_queues_override_reserve_is_a_share": "update queues set override_reserve = -0.1 where name = 'spawn'",
    "ck_queues_changed_by_somebody": "update queues set changed_at = now() where name = 'spawn'",
    # I40, I41: one beat sends, each tick is claimed once; an entry has all that it takes to send it.
    "ck_beat_lease_one_row": "insert into beat_lease (singleton, epoch, host, pid, backend_pid, backend_start, since, renewed_at,"
    " until) values (false, 8, 'h', 2, 2, now(), now(), now(), now() + interval '5 s')",
    "ck_beat_lease_time_runs_forward": "update beat_lease set until = renewed_at",
    "uq_ticks_entry_due_at": f"{TICK}) values ('nightly', '2026-01-01Z', gen_random_uuid(), 'a.b', '[]', '{{}}', 0, 7)",
    "uq_ticks_task_id": f"{TICK}) values"
    " ('daily', now(), '6f0f4a1e-5c0e-5d0b-9c56-2f0b7e3d9a51', 'a.b', '[]', '{}', 0, 7)",
    "ck_ticks_missed_is_no_debt": "update ticks set missed = -1",
    "ck_ticks_failed_is_done": "update ticks set error = 'lost'",
    "ck_schedule_name_fits": "update schedule set name = 'a night'",
    "ck_schedule_says_all": "update schedule set settings = settings - 'queue'",
    "ck_schedule_can_be_sent": "update schedule set overrides = jsonb_build_object('task', null)",
    "ck_schedule_due_after_its_anchor": "update schedule set due_at = anchor_at",
    "ck_schedule_asked_by_somebody": "update schedule set asked_at = now()",
    "ck_schedule_changed_by_somebody": "update schedule set changed_by = 'alice'",
    "ck_schedule_counts_are_no_debts": "update schedule set missed = -1",
    "ck_installation_one_row": "insert into installation (singleton) values (false)",
}
UNIQUE_INDEXES = {
    "ux_profiles_current": "insert into profiles (name, family, spec, floor, max_workers) values ('duck@2', 'duck', '{}', 0, 0)",
    # I21: a lane has one run; I28: of wholly equal operations one is pending.
    "ux_runs_lane": "insert into runs (task, key, lane, queue, operation_id, task_id, attempt, served, lane_wait_s, lease_until)"
    " values ('step.y', 'k', 'l', 'q', 1, 'op1.0-x', 1, 1, 0, now())",
    "ux_operations_pending": f"{OPERATION}) values ('network.refresh', 'blue', 'user_facing', 2, '[1, 2]', 2)",
    "ux_interfaces_name": f"{INTERFACE}('red', 'web1', 'n1', 'web9', '02:53:74:00:00:09', '10.2.0.9')",
    "ux_interfaces_address": f"{INTERFACE}('red', 'web9', 'n1', 'web9', '02:53:74:00:00:09', '10.2.0.2')",
    "ux_interfaces_mac": f"{INTERFACE}('red', 'web9', 'n1', 'web9', '02:53:74:00:00:02', '10.2.0.9')",
}
# The rules of each table's one trigger, which names the rule that it enforces as a constraint does.
RULES = {
    # I1: never two tenants in a life, not even with an end to the claim in between.
    "worker_serves_one_tenant": f"{RENEWED}, state = 'activating', hot_until = null, epoch = epoch + 1, tenant = 'globex'"
    " where state = 'hot_idle'",
    "worker_epoch_never_falls": "update workers set epoch = epoch - 1 where state = 'active'",
    "worker_claim_takes_a_new_epoch": f"{RENEWED}, state = 'activating', tenant = 'acme' where state = 'idle'",
    "worker_state_follows_the_table": f"{RENEWED}, state = 'active', tenant = 'acme' where state = 'idle'",
    "operation_state_follows_the_table": "update operations set state = 'running', ended_at = null where state = 'succeeded'",
    "operation_step_never_falls": "update operations set step = 0 where state = 'running'",
    "queue_reserves_leave_room": "update queues set override_reserve = 0.75 where name = 'spawn'",
    "tick_is_its_holders": f"{TICK}) values ('nightly', now() + interval '1 s', gen_random_uuid(), 'a.b', '[]', '{{}}', 0, 6)",
    "beat_epoch_never_falls": "update beat_lease set epoch = 6",
    "beat_takes_a_new_epoch": "update beat_lease set backend_pid = 2",
    "operation_plan_stands": "update operations set plan = '[3, 4]' where state = 'running'",
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
    table = next(str(t.name) for t in metadata.sorted_tables if name in {str(c.name) for c in t.constraints})
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
    noun = name.split("_", maxsplit=1)[0]
    table = "beat_lease" if noun == "beat" else f"{noun}s"
    connection.execute(f"alter table {table} disable trigger guard_{noun}")
    assert connection.execute(RULES[name]).rowcount == 1


def test_every_constraint_of_the_tables_is_tried_here() -> None:
    named = {str(c.name) for table in metadata.sorted_tables for c in table.constraints if not _is_key(str(c.name))}
    assert named <= set(CHECKS)


def test_every_trigger_of_the_database_is_tried_here(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    found = connection.execute("select tgname from pg_trigger where not tgisinternal").fetchall()
    assert {str(name) for (name,) in found} == {
        f"guard_{noun}" for noun in ("worker", "operation", "queue", "tick", "beat")
    }


def _is_key(name: str) -> bool:
    return name.startswith("pk_")
