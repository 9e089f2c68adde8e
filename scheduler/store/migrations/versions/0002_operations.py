"""operations, their runs, and the networks they make as they should be"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "networks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("vni", sa.Integer(), nullable=False),
        sa.Column("prefix", postgresql.CIDR(), nullable=False),
        sa.Column("gateway_node", sa.Text(), nullable=False),
        sa.Column("wanted", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        postgresql.ExcludeConstraint((sa.text("prefix inet_ops"), "&&"), using="gist", name="ex_networks_prefix"),
        sa.CheckConstraint(
            "family(prefix) = 4 and masklen(prefix) between 8 and 29", name=op.f("ck_networks_prefix_fits")
        ),
        sa.CheckConstraint("vni between 1 and 16777215", name=op.f("ck_networks_vni_fits_the_wire")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_networks")),
        sa.UniqueConstraint("vni", name=op.f("uq_networks_vni")),
    )
    op.create_table(
        "operations",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "token",
            sa.Text(),
            server_default=sa.text("left(replace(gen_random_uuid()::text, '-', ''), 8)"),
            nullable=False,
        ),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("plan", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'queued'"), nullable=False),
        sa.Column("unmet", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("dependent", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("asked", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("awaited", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "trail", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False
        ),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column(
            "submitted_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(state = 'waiting') = (unmet > 0) or ended_at is not null", name=op.f("ck_operations_waits_for_somebody")
        ),
        sa.CheckConstraint(
            "(state in ('cancelled', 'failed', 'succeeded')) = (ended_at is not null)",
            name=op.f("ck_operations_ended_has_time"),
        ),
        sa.CheckConstraint("state <> 'succeeded' or step = steps", name=op.f("ck_operations_succeeded_whole")),
        sa.CheckConstraint(
            "state in ('cancelled', 'failed', 'queued', 'running', 'succeeded', 'waiting')",
            name=op.f("ck_operations_state_known"),
        ),
        sa.CheckConstraint(
            "state not in ('waiting', 'queued') or (step = 0 and began_at is null)",
            name=op.f("ck_operations_queued_has_not_begun"),
        ),
        sa.CheckConstraint("asked > 0 and rank >= 0", name=op.f("ck_operations_counts_are_no_debts")),
        sa.CheckConstraint("step between 0 and steps", name=op.f("ck_operations_step_in_plan")),
        sa.CheckConstraint("steps = jsonb_array_length(plan)", name=op.f("ck_operations_steps_counted")),
        sa.CheckConstraint("unmet = 0 or dependent", name=op.f("ck_operations_waits_as_dependent")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operations")),
        postgresql_with={"fillfactor": "60", "autovacuum_vacuum_scale_factor": "0.05"},
    )
    op.create_index(
        "ix_operations_ended",
        "operations",
        ["ended_at"],
        unique=False,
        postgresql_where=sa.text("ended_at is not null"),
    )
    op.create_index(
        "ix_operations_live", "operations", ["seen_at"], unique=False, postgresql_where=sa.text("ended_at is null")
    )
    op.create_index("ix_operations_target", "operations", ["target", "id"], unique=False)
    op.create_index(
        "ux_operations_pending",
        "operations",
        ["kind", "target", "rank", sa.literal_column("md5(plan::text)")],
        unique=True,
        postgresql_where=sa.text("state = 'queued' and not dependent"),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("operation_id", sa.BigInteger(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("served", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'running'"), nullable=False),
        sa.Column("lane_wait_s", sa.Float(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("(state = 'running') = (ended_at is null)", name=op.f("ck_runs_ended_has_time")),
        sa.CheckConstraint(
            "state in ('failed', 'lost', 'retried', 'running', 'succeeded')", name=op.f("ck_runs_state_known")
        ),
        sa.CheckConstraint("served > 0", name=op.f("ck_runs_serves_somebody")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.05"},
    )
    op.create_index(
        "ix_runs_ended", "runs", ["ended_at"], unique=False, postgresql_where=sa.text("ended_at is not null")
    )
    op.create_index("ix_runs_operation", "runs", ["operation_id"], unique=False)
    op.create_index("ux_runs_lane", "runs", ["lane"], unique=True, postgresql_where=sa.text("state = 'running'"))
    op.create_table(
        "network_nodes",
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["network"], ["networks.name"], name=op.f("fk_network_nodes_network"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("network", "node", name=op.f("pk_network_nodes")),
    )
    op.create_table(
        "operation_needs",
        sa.Column("operation_id", sa.BigInteger(), nullable=False),
        sa.Column("on_id", sa.BigInteger(), nullable=False),
        sa.Column("must_succeed", sa.Boolean(), nullable=False),
        sa.CheckConstraint("on_id < operation_id", name=op.f("ck_operation_needs_no_circle")),
        sa.ForeignKeyConstraint(
            ["on_id"], ["operations.id"], name=op.f("fk_operation_needs_on_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["operation_id"], ["operations.id"], name=op.f("fk_operation_needs_operation_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("operation_id", "on_id", name=op.f("pk_operation_needs")),
    )
    op.create_index("ix_operation_needs_on", "operation_needs", ["on_id"], unique=False)
    op.create_table(
        "interfaces",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("mac", sa.Text(), nullable=False),
        sa.Column("address", postgresql.INET(), nullable=False),
        sa.Column("wanted", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("mac like '02:53:74:%'", name=op.f("ck_interfaces_mac_is_ours")),
        sa.ForeignKeyConstraint(
            ["network", "node"],
            ["network_nodes.network", "network_nodes.node"],
            name=op.f("fk_interfaces_network_node"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_interfaces")),
    )
    op.create_index(
        "ux_interfaces_address", "interfaces", ["network", "address"], unique=True, postgresql_where=sa.text("wanted")
    )
    op.create_index("ux_interfaces_mac", "interfaces", ["mac"], unique=True, postgresql_where=sa.text("wanted"))
    op.create_index(
        "ux_interfaces_name", "interfaces", ["network", "name"], unique=True, postgresql_where=sa.text("wanted")
    )
    op.create_table(
        "floating_addresses",
        sa.Column("address", postgresql.INET(), nullable=False),
        sa.Column("interface_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["interface_id"], ["interfaces.id"], name=op.f("fk_floating_addresses_interface_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("address", name=op.f("pk_floating_addresses")),
        sa.UniqueConstraint("interface_id", name=op.f("uq_floating_addresses_interface_id")),
    )


def downgrade() -> None:
    """Back."""
    op.execute("drop view if exists every_operation")
    for function in ("submit_operation", "begin_run", "end_run", "end_operations", "cancel_operation"):
        op.execute(f"drop function if exists {function}")
    op.drop_table("floating_addresses")
    op.drop_index("ux_interfaces_name", table_name="interfaces", postgresql_where=sa.text("wanted"))
    op.drop_index("ux_interfaces_mac", table_name="interfaces", postgresql_where=sa.text("wanted"))
    op.drop_index("ux_interfaces_address", table_name="interfaces", postgresql_where=sa.text("wanted"))
    op.drop_table("interfaces")
    op.drop_index("ix_operation_needs_on", table_name="operation_needs")
    op.drop_table("operation_needs")
    op.drop_table("network_nodes")
    op.drop_index("ux_runs_lane", table_name="runs", postgresql_where=sa.text("state = 'running'"))
    op.drop_index("ix_runs_operation", table_name="runs")
    op.drop_index("ix_runs_ended", table_name="runs", postgresql_where=sa.text("ended_at is not null"))
    op.drop_table("runs")
    op.drop_index(
        "ux_operations_pending", table_name="operations", postgresql_where=sa.text("state = 'queued' and not dependent")
    )
    op.drop_index("ix_operations_target", table_name="operations")
    op.drop_index("ix_operations_live", table_name="operations", postgresql_where=sa.text("ended_at is null"))
    op.drop_index("ix_operations_ended", table_name="operations", postgresql_where=sa.text("ended_at is not null"))
    op.drop_table("operations")
    op.drop_table("networks")
    op.execute("drop function if exists guard_operation")
