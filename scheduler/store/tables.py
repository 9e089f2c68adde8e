"""The tables. Every invariant that SQL can hold stands here as a constraint, beside the code that keeps it.

A live claim is no row of its own: it is the tenant, epoch and lease of its worker's row. So a worker cannot have two (I1),
a claim costs one row update (I2), and `claims` is the history of those that have ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from scheduler.core.correlation import IN_SQL as CORRELATION_IN_SQL
from scheduler.core.states import CLAIMED, LIVE, NEUTRAL, WorkerState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from enum import StrEnum

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
NOW = text("now()")
Time = DateTime(timezone=True)


def among(states: Iterable[StrEnum]) -> str:
    """A list of states, as a constraint compares with it."""
    return "(" + ", ".join(f"'{state}'" for state in sorted(states)) + ")"


installation = Table(
    "installation",
    metadata,
    Column("singleton", Boolean, primary_key=True, server_default=text("true")),
    # The mark that this pool's workers carry, so that two installations on one machine leave each other's alone.
    Column("pool_id", Uuid(as_uuid=False), nullable=False, server_default=text("gen_random_uuid()")),
    CheckConstraint("singleton", name="one_row"),
)

tenants = Table(
    "tenants",
    metadata,
    Column("name", Text, primary_key=True),
    Column("max_workers", Integer, nullable=False, server_default=text("0")),
    # What the constraint holds `live` under: the cap, or the claims that a lowered cap found already there.
    Column("ceiling", Integer),
    # Its claims, counted only while it has a cap: see sql/15_caps.sql.
    Column("live", Integer, nullable=False, server_default=text("0")),
    Column("turn_at", Time),
    CheckConstraint("max_workers >= 0", name="cap_is_no_debt"),
    CheckConstraint("live >= 0", name="live_is_no_debt"),
    CheckConstraint("ceiling is null or live <= ceiling", name="live_under_cap"),
    CheckConstraint("(max_workers = 0) = (ceiling is null)", name="ceiling_follows_cap"),
    CheckConstraint("max_workers > 0 or live = 0", name="counted_under_a_cap"),
    postgresql_with={"fillfactor": "50", "autovacuum_vacuum_scale_factor": "0.05"},
)

profiles = Table(
    "profiles",
    metadata,
    Column("name", Text, primary_key=True),  # canonical
    Column("family", Text, nullable=False),  # the name the operator gave
    Column("spec", JSONB, nullable=False),
    Column("floor", Integer, nullable=False),
    Column("max_workers", Integer, nullable=False),
    Column("is_current", Boolean, nullable=False, server_default=text("true")),
    Column("draining", Boolean, nullable=False, server_default=text("false")),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("backoff_until", Time),
    CheckConstraint("floor >= 0 and max_workers >= 0", name="counts_are_no_debts"),
    CheckConstraint("max_workers = 0 or floor <= max_workers", name="floor_under_cap"),
)
Index("ux_profiles_current", profiles.c.family, unique=True, postgresql_where=text("is_current"))

nodes = Table(
    "nodes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("first_seen", Time, nullable=False, server_default=NOW),
    # Two who may close a node, neither of whom opens what the other closed: an operator here, and the platform.
    Column("cordoned", Boolean, nullable=False, server_default=text("false")),
    Column("unschedulable", Boolean, nullable=False, server_default=text("false")),
)

# The classes of work: what the settings say, and what operators have said since. sql/80_queues.sql guards their sum.
queues = Table(
    "queues",
    metadata,
    Column("name", Text, primary_key=True),
    Column("rank", Integer, nullable=False),
    Column("bound_s", Float, nullable=False),
    Column("reserve", Float, nullable=False),
    Column("override_bound_s", Float),
    Column("override_reserve", Float),
    Column("changed_at", Time),
    Column("changed_by", Text),
    # Compared when a statement has ended: two that trade their ranks are of one rank in between.
    UniqueConstraint("rank", deferrable=True, initially="IMMEDIATE"),
    CheckConstraint("name ~ '^[a-z][a-z0-9_-]*$'", name="name_is_a_class"),
    CheckConstraint("rank >= 0", name="rank_is_no_debt"),
    CheckConstraint("bound_s between 0.001 and 86400", name="bound_fits"),
    CheckConstraint("override_bound_s between 0.001 and 86400", name="override_bound_fits"),
    CheckConstraint("reserve >= 0 and reserve < 1", name="reserve_is_a_share"),
    CheckConstraint("override_reserve >= 0 and override_reserve < 1", name="override_reserve_is_a_share"),
    CheckConstraint("(changed_at is null) = (changed_by is null)", name="changed_by_somebody"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("profile", Text, ForeignKey("profiles.name"), nullable=False),
    Column("state", Text, nullable=False, server_default=text("'spawning'")),
    Column("epoch", Integer, nullable=False, server_default=text("0")),
    Column("tenant", Text),
    Column("state_since", Time, nullable=False, server_default=NOW),
    # The live claim, if any.
    Column("asked_at", Time),
    Column("claimed_at", Time),
    Column("activated_at", Time),
    Column("lease_until", Time),
    Column("origin", Text),
    # After a claim.
    Column("hot_until", Time),
    # Where it runs. The node's facts stand here as well, so that a claim reads one index and no second table.
    Column("node", Text),
    Column("node_first_seen", Time),
    Column("cordoned", Boolean, nullable=False, server_default=text("false")),
    Column("endpoint", Text),
    Column("handle", JSONB),
    Column(
        "activation_key",
        Text,
        nullable=False,
        server_default=text("replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '')"),
    ),
    # Its launch and its end.
    Column("launch_attempts", Integer, nullable=False, server_default=text("0")),
    Column("launch_until", Time),
    Column("created_at", Time, nullable=False, server_default=NOW),
    Column("launched_at", Time),
    Column("ready_at", Time),
    Column("ended_at", Time),
    Column("failure", Text),
    # Of the latest claim on it; before the first, of the ticket that it was made for, if there was one.
    Column("correlation_id", Text),
    CheckConstraint(CORRELATION_IN_SQL, name="correlation_is_short"),
    CheckConstraint(f"state in {among(WorkerState)}", name="state_known"),
    CheckConstraint("epoch >= 0", name="epoch_counts_up"),
    CheckConstraint(f"state not in {among(NEUTRAL)} or tenant is null", name="neutral_has_no_tenant"),
    CheckConstraint(f"state not in {among(CLAIMED)} or tenant is not null", name="claimed_has_tenant"),
    CheckConstraint("state <> 'hot_idle' or tenant is not null", name="hot_idle_has_tenant"),
    CheckConstraint(f"(state in {among(CLAIMED)}) = (lease_until is not null)", name="claimed_has_lease"),
    CheckConstraint("(lease_until is null) = (claimed_at is null)", name="lease_has_claim"),
    CheckConstraint("(state = 'hot_idle') = (hot_until is not null)", name="hot_idle_ends"),
    CheckConstraint("state <> 'idle' or (ready_at is not null and endpoint is not null)", name="idle_is_reachable"),
    CheckConstraint(f"(state in {among(LIVE)}) = (ended_at is null)", name="ended_is_not_live"),
    postgresql_with={
        "fillfactor": "70",
        "autovacuum_vacuum_scale_factor": "0.02",
        "autovacuum_analyze_scale_factor": "0.05",
    },
)
Index(
    "ix_workers_claimable",
    workers.c.profile,
    workers.c.node_first_seen,
    workers.c.id,
    postgresql_where=text("state = 'idle' and not cordoned"),
)
Index("ix_workers_hot_idle", workers.c.tenant, workers.c.profile, postgresql_where=text("state = 'hot_idle'"))
Index(
    "ix_workers_live",
    workers.c.profile,
    workers.c.state,
    postgresql_where=text("ended_at is null"),
)
Index("ix_workers_leases", workers.c.lease_until, postgresql_where=text("lease_until is not null"))
Index("ix_workers_ended", workers.c.ended_at, postgresql_where=text("ended_at is not null"))

tickets = Table(
    "tickets",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("waiter", Text, nullable=False),
    Column("wake_key", Text),  # where its caller listens; null = nobody does, the ticket is demand only
    Column("asked_at", Time, nullable=False, server_default=NOW),
    Column("expires_at", Time, nullable=False),
    Column("worker_id", BigInteger),
    Column("epoch", Integer),
    Column("correlation_id", Text),
    CheckConstraint(CORRELATION_IN_SQL, name="correlation_is_short"),
    UniqueConstraint("tenant", "profile", "waiter"),
    UniqueConstraint("worker_id", "epoch"),
    CheckConstraint("(worker_id is null) = (epoch is null)", name="granted_whole"),
    CheckConstraint("wake_key is not null or worker_id is null", name="granted_to_a_listener"),
    postgresql_with={"autovacuum_vacuum_scale_factor": "0.05"},
)
Index("ix_tickets_waiting", tickets.c.profile, tickets.c.tenant, postgresql_where=text("worker_id is null"))

claims = Table(
    "claims",
    metadata,
    Column("worker_id", BigInteger, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("node", Text),
    Column("node_first_seen", Time),
    Column("origin", Text, nullable=False),
    Column("asked_at", Time, nullable=False),
    Column("claimed_at", Time, nullable=False),
    Column("activated_at", Time),
    Column("ended_at", Time, nullable=False),
    Column("end_reason", Text, nullable=False),
    Column("correlation_id", Text),
    CheckConstraint("origin in ('hot_idle', 'warm', 'waited')", name="origin_known"),
    CheckConstraint("asked_at <= claimed_at and claimed_at <= ended_at", name="time_runs_forward"),
)
Index("ix_claims_ended", claims.c.ended_at)
Index("ix_claims_correlation", claims.c.correlation_id, postgresql_where=text("correlation_id is not null"))

events = Table(
    "events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", Time, nullable=False, server_default=text("clock_timestamp()")),
    Column("kind", Text, nullable=False),
    Column("profile", Text),
    Column("worker_id", BigInteger),
    Column("tenant", Text),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("correlation_id", Text),
)
Index("ix_events_at", events.c.at)
Index("ix_events_correlation", events.c.correlation_id, postgresql_where=text("correlation_id is not null"))
Index("ix_events_worker", events.c.worker_id)

# Counters and histograms that no process's end sets back: a row a series and edge, as many as the labels have values.
tallies = Table(
    "tallies",
    metadata,
    Column("metric", Text, primary_key=True),
    Column("labels", JSONB, primary_key=True),
    # The upper edge of what was observed; infinity for what has no size, and for what is beyond all edges.
    Column("edge", Float, primary_key=True),
    Column("many", BigInteger, nullable=False),
    Column("total", Float, nullable=False),
    CheckConstraint("many >= 0 and total >= 0", name="counts_up"),
    CheckConstraint("jsonb_typeof(labels) = 'object'", name="labels_have_names"),
    postgresql_with={"fillfactor": "50"},
)
