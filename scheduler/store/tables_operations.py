"""The tables of operations and of the networks that they make as they should be.

An operation's row is all that submitting it writes, and all that folding it leaves: who ran its steps for it stands in its
own `trail`. `runs` has a row for each run of a step, and its index holds a lane to one of them (I21).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import CIDR, INET, JSONB, ExcludeConstraint

from scheduler.core.correlation import IN_SQL as CORRELATION_IN_SQL
from scheduler.core.operations import ENDED, OperationState, RunState
from scheduler.store.tables import NOW, Time, among, metadata

operations = Table(
    "operations",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    # Part of its steps' Celery ids: another database on the same Redis counts from 1 as well.
    Column("token", Text, nullable=False, server_default=text("left(replace(gen_random_uuid()::text, '-', ''), 8)")),
    Column("kind", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("rank", Integer, nullable=False),  # of the queue; 0 is the most urgent
    Column("plan", JSONB, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("step", Integer, nullable=False, server_default=text("0")),  # the next to run
    Column("state", Text, nullable=False, server_default=text("'queued'")),
    Column("unmet", Integer, nullable=False, server_default=text("0")),  # operations it waits for
    Column("dependent", Boolean, nullable=False, server_default=text("false")),  # it has, or had, any of those
    Column("asked", Integer, nullable=False, server_default=text("1")),  # submits that it stands for
    Column("awaited", Boolean, nullable=False, server_default=text("false")),  # somebody is to be told of its end
    Column("trail", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("error", Text),
    Column("submitted_at", Time, nullable=False, server_default=text("clock_timestamp()")),
    Column("queued_at", Time),
    Column("began_at", Time),
    Column("ended_at", Time),
    Column("seen_at", Time, nullable=False, server_default=NOW),  # when it last moved, or was looked for
    Column("counted", Boolean, nullable=False, server_default=text("false")),  # `tallies` has it
    Column("correlation_id", Text),  # of who submitted it first
    CheckConstraint(CORRELATION_IN_SQL, name="correlation_is_short"),
    CheckConstraint(f"state in {among(OperationState)}", name="state_known"),
    CheckConstraint("step between 0 and steps", name="step_in_plan"),
    CheckConstraint("steps = jsonb_array_length(plan)", name="steps_counted"),
    CheckConstraint(f"(state in {among(ENDED)}) = (ended_at is not null)", name="ended_has_time"),
    CheckConstraint("(state = 'waiting') = (unmet > 0) or ended_at is not null", name="waits_for_somebody"),
    CheckConstraint("unmet = 0 or dependent", name="waits_as_dependent"),
    CheckConstraint("state <> 'succeeded' or step = steps", name="succeeded_whole"),
    CheckConstraint(
        "state not in ('waiting', 'queued') or (step = 0 and began_at is null)", name="queued_has_not_begun"
    ),
    CheckConstraint("asked > 0 and rank >= 0", name="counts_are_no_debts"),
    postgresql_with={"fillfactor": "60", "autovacuum_vacuum_scale_factor": "0.05"},
)
# Of wholly equal operations one is pending (I28).
Index(
    "ux_operations_pending",
    operations.c.kind,
    operations.c.target,
    operations.c.rank,
    text("md5(plan::text)"),
    unique=True,
    postgresql_where=text("state = 'queued' and not dependent"),
)
Index("ix_operations_live", operations.c.seen_at, postgresql_where=text("ended_at is null"))
Index("ix_operations_ended", operations.c.ended_at, postgresql_where=text("ended_at is not null"))
Index(
    "ix_operations_uncounted",
    operations.c.ended_at,
    postgresql_where=text("ended_at is not null and not counted"),
)
Index("ix_operations_correlation", operations.c.correlation_id, postgresql_where=text("correlation_id is not null"))
Index("ix_operations_target", operations.c.target, operations.c.id)

operation_needs = Table(
    "operation_needs",
    metadata,
    Column("operation_id", BigInteger, ForeignKey("operations.id", ondelete="CASCADE"), primary_key=True),
    Column("on_id", BigInteger, ForeignKey("operations.id", ondelete="CASCADE"), primary_key=True),
    Column("must_succeed", Boolean, nullable=False),
    CheckConstraint("on_id < operation_id", name="no_circle"),
)
Index("ix_operation_needs_on", operation_needs.c.on_id)

runs = Table(
    "runs",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("task", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("queue", Text, nullable=False),
    # Who led it. No reference: its history may outlive the operation's.
    Column("operation_id", BigInteger, nullable=False),
    Column("task_id", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("served", Integer, nullable=False),  # operations that it runs for
    Column("state", Text, nullable=False, server_default=text("'running'")),
    # How long its message had waited, where that is known, and for how much of it its lane was taken; how often it gave way to
    # another run of the lane, and how many requests it ran for beside its own.
    Column("wait_s", Float),
    Column("lane_wait_s", Float, nullable=False),
    Column("defers", Integer, nullable=False, server_default=text("0")),
    Column("folded", Integer, nullable=False, server_default=text("0")),
    # Of those, who joined it when a step of theirs had ended, and not when they were submitted.
    Column("folded_at_worker", Integer, nullable=False, server_default=text("0")),
    Column("began_at", Time, nullable=False, server_default=text("clock_timestamp()")),
    Column("ended_at", Time),
    Column("lease_until", Time, nullable=False),
    Column("error", Text),
    Column("counted", Boolean, nullable=False, server_default=text("false")),  # `tallies` has it
    CheckConstraint(f"state in {among(RunState)}", name="state_known"),
    CheckConstraint("(state = 'running') = (ended_at is null)", name="ended_has_time"),
    CheckConstraint("served > 0", name="serves_somebody"),
    CheckConstraint("wait_s >= 0 and defers >= 0 and folded >= 0", name="waits_are_no_debts"),
    CheckConstraint("folded_at_worker between 0 and greatest(folded, 0)", name="folded_somewhere"),
    postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.05"},
)
Index("ux_runs_lane", runs.c.lane, unique=True, postgresql_where=text("state = 'running'"))
Index("ix_runs_ended", runs.c.ended_at, postgresql_where=text("ended_at is not null"))
Index("ix_runs_uncounted", runs.c.ended_at, postgresql_where=text("ended_at is not null and not counted"))
Index("ix_runs_operation", runs.c.operation_id)

networks = Table(
    "networks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("vni", Integer, nullable=False),
    Column("prefix", CIDR, nullable=False),
    Column("gateway_node", Text, nullable=False),  # has its address, DHCP, DNS and the floating addresses
    Column("wanted", Boolean, nullable=False, server_default=text("true")),  # false: being deleted
    Column("created_at", Time, nullable=False, server_default=NOW),
    UniqueConstraint("vni"),
    CheckConstraint("vni between 1 and 16777215", name="vni_fits_the_wire"),
    CheckConstraint("family(prefix) = 4 and masklen(prefix) between 8 and 29", name="prefix_fits"),
    ExcludeConstraint((text("prefix inet_ops"), "&&"), using="gist", name="ex_networks_prefix"),
)

network_nodes = Table(
    "network_nodes",
    metadata,
    Column("network", Text, ForeignKey("networks.name", ondelete="CASCADE"), primary_key=True),
    Column("node", Text, primary_key=True),
)

interfaces = Table(
    "interfaces",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("network", Text, nullable=False),
    Column("name", Text, nullable=False),  # of the instance: its host name in the network's DNS
    Column("node", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("mac", Text, nullable=False),
    Column("address", INET, nullable=False),
    Column("wanted", Boolean, nullable=False, server_default=text("true")),  # false: to be unplugged
    Column("created_at", Time, nullable=False, server_default=NOW),
    ForeignKeyConstraint(["network", "node"], ["network_nodes.network", "network_nodes.node"], ondelete="CASCADE"),
    CheckConstraint("mac like '02:53:74:%'", name="mac_is_ours"),
)
Index("ux_interfaces_name", interfaces.c.network, interfaces.c.name, unique=True, postgresql_where=text("wanted"))
Index("ux_interfaces_address", interfaces.c.network, interfaces.c.address, unique=True, postgresql_where=text("wanted"))
Index("ux_interfaces_mac", interfaces.c.mac, unique=True, postgresql_where=text("wanted"))

floating_addresses = Table(
    "floating_addresses",
    metadata,
    Column("address", INET, primary_key=True),
    Column("interface_id", BigInteger, ForeignKey("interfaces.id", ondelete="CASCADE"), nullable=False),
    UniqueConstraint("interface_id"),
)
