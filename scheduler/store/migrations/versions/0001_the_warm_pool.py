"""the warm pool"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "claims",
        sa.Column("worker_id", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("node_first_seen", sa.DateTime(timezone=True), nullable=True),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("activated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("end_reason", sa.Text(), nullable=False),
        sa.CheckConstraint("origin in ('hot_idle', 'warm', 'waited')", name=op.f("ck_claims_origin_known")),
        sa.CheckConstraint(
            "asked_at <= claimed_at and claimed_at <= ended_at", name=op.f("ck_claims_time_runs_forward")
        ),
        sa.PrimaryKeyConstraint("worker_id", "epoch", name=op.f("pk_claims")),
    )
    op.create_index("ix_claims_ended", "claims", ["ended_at"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=True),
        sa.Column("worker_id", sa.BigInteger(), nullable=True),
        sa.Column("tenant", sa.Text(), nullable=True),
        sa.Column(
            "detail", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index("ix_events_at", "events", ["at"], unique=False)
    op.create_index("ix_events_worker", "events", ["worker_id"], unique=False)
    op.create_table(
        "installation",
        sa.Column("singleton", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("pool_id", sa.Uuid(as_uuid=False), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.CheckConstraint("singleton", name=op.f("ck_installation_one_row")),
        sa.PrimaryKeyConstraint("singleton", name=op.f("pk_installation")),
    )
    op.create_table(
        "nodes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("first_seen", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("cordoned", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_nodes")),
    )
    op.create_table(
        "profiles",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("spec", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("floor", sa.Integer(), nullable=False),
        sa.Column("max_workers", sa.Integer(), nullable=False),
        sa.Column("is_current", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("draining", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("backoff_until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("floor >= 0 and max_workers >= 0", name=op.f("ck_profiles_counts_are_no_debts")),
        sa.CheckConstraint("max_workers = 0 or floor <= max_workers", name=op.f("ck_profiles_floor_under_cap")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_profiles")),
    )
    op.create_index("ux_profiles_current", "profiles", ["family"], unique=True, postgresql_where=sa.text("is_current"))
    op.create_table(
        "tenants",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("max_workers", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("ceiling", sa.Integer(), nullable=True),
        sa.Column("live", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("turn_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(max_workers = 0) = (ceiling is null)", name=op.f("ck_tenants_ceiling_follows_cap")),
        sa.CheckConstraint("max_workers > 0 or live = 0", name=op.f("ck_tenants_counted_under_a_cap")),
        sa.CheckConstraint("ceiling is null or live <= ceiling", name=op.f("ck_tenants_live_under_cap")),
        sa.CheckConstraint("live >= 0", name=op.f("ck_tenants_live_is_no_debt")),
        sa.CheckConstraint("max_workers >= 0", name=op.f("ck_tenants_cap_is_no_debt")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tenants")),
        postgresql_with={"fillfactor": "50", "autovacuum_vacuum_scale_factor": "0.05"},
    )
    op.create_table(
        "tickets",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("waiter", sa.Text(), nullable=False),
        sa.Column("wake_key", sa.Text(), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("worker_id", sa.BigInteger(), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=True),
        sa.CheckConstraint("(worker_id is null) = (epoch is null)", name=op.f("ck_tickets_granted_whole")),
        sa.CheckConstraint("wake_key is not null or worker_id is null", name=op.f("ck_tickets_granted_to_a_listener")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tickets")),
        sa.UniqueConstraint("tenant", "profile", "waiter", name=op.f("uq_tickets_tenant_profile_waiter")),
        sa.UniqueConstraint("worker_id", "epoch", name=op.f("uq_tickets_worker_id_epoch")),
        postgresql_with={"autovacuum_vacuum_scale_factor": "0.05"},
    )
    op.create_index(
        "ix_tickets_waiting",
        "tickets",
        ["profile", "tenant"],
        unique=False,
        postgresql_where=sa.text("worker_id is null"),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'spawning'"), nullable=False),
        sa.Column("epoch", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=True),
        sa.Column("state_since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("activated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("origin", sa.Text(), nullable=True),
        sa.Column("hot_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("node_first_seen", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cordoned", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=True),
        sa.Column("handle", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "activation_key",
            sa.Text(),
            server_default=sa.text("replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '')"),
            nullable=False,
        ),
        sa.Column("launch_attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("launch_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("launched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.CheckConstraint("(state = 'hot_idle') = (hot_until is not null)", name=op.f("ck_workers_hot_idle_ends")),
        sa.CheckConstraint(
            "(state in ('activating', 'active')) = (lease_until is not null)", name=op.f("ck_workers_claimed_has_lease")
        ),
        sa.CheckConstraint(
            "(state in ('activating', 'active', 'draining', 'hot_idle', 'idle', 'spawning')) = (ended_at is null)",
            name=op.f("ck_workers_ended_is_not_live"),
        ),
        sa.CheckConstraint("state <> 'hot_idle' or tenant is not null", name=op.f("ck_workers_hot_idle_has_tenant")),
        sa.CheckConstraint(
            "state <> 'idle' or (ready_at is not null and endpoint is not null)",
            name=op.f("ck_workers_idle_is_reachable"),
        ),
        sa.CheckConstraint(
            "state in ('activating', 'active', 'draining', 'hot_idle', 'idle', 'lost', 'retired', 'spawning')",
            name=op.f("ck_workers_state_known"),
        ),
        sa.CheckConstraint(
            "state not in ('activating', 'active') or tenant is not null", name=op.f("ck_workers_claimed_has_tenant")
        ),
        sa.CheckConstraint(
            "state not in ('idle', 'spawning') or tenant is null", name=op.f("ck_workers_neutral_has_no_tenant")
        ),
        sa.CheckConstraint("(lease_until is null) = (claimed_at is null)", name=op.f("ck_workers_lease_has_claim")),
        sa.CheckConstraint("epoch >= 0", name=op.f("ck_workers_epoch_counts_up")),
        sa.ForeignKeyConstraint(["profile"], ["profiles.name"], name=op.f("fk_workers_profile")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_analyze_scale_factor": "0.05",
        },
    )
    op.create_index(
        "ix_workers_claimable",
        "workers",
        ["profile", "node_first_seen", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'idle' and not cordoned"),
    )
    op.create_index(
        "ix_workers_ended", "workers", ["ended_at"], unique=False, postgresql_where=sa.text("ended_at is not null")
    )
    op.create_index(
        "ix_workers_hot_idle",
        "workers",
        ["tenant", "profile"],
        unique=False,
        postgresql_where=sa.text("state = 'hot_idle'"),
    )
    op.create_index(
        "ix_workers_leases",
        "workers",
        ["lease_until"],
        unique=False,
        postgresql_where=sa.text("lease_until is not null"),
    )
    op.create_index(
        "ix_workers_live", "workers", ["profile", "state"], unique=False, postgresql_where=sa.text("ended_at is null")
    )
    op.execute("insert into installation default values")


def downgrade() -> None:
    """Back."""
    op.execute("drop view if exists every_claim")
    op.execute(
        "drop function if exists claim_worker, claim_miss, move_worker, grant_one, take_ticket, worker_ready, release_claim, is_capped, set_cap,"
        " guard_worker cascade"
    )
    op.drop_index("ix_workers_live", table_name="workers", postgresql_where=sa.text("ended_at is null"))
    op.drop_index("ix_workers_leases", table_name="workers", postgresql_where=sa.text("lease_until is not null"))
    op.drop_index("ix_workers_hot_idle", table_name="workers", postgresql_where=sa.text("state = 'hot_idle'"))
    op.drop_index("ix_workers_ended", table_name="workers", postgresql_where=sa.text("ended_at is not null"))
    op.drop_index(
        "ix_workers_claimable", table_name="workers", postgresql_where=sa.text("state = 'idle' and not cordoned")
    )
    op.drop_table("workers")
    op.drop_index("ix_tickets_waiting", table_name="tickets", postgresql_where=sa.text("worker_id is null"))
    op.drop_table("tickets")
    op.drop_table("tenants")
    op.drop_index("ux_profiles_current", table_name="profiles", postgresql_where=sa.text("is_current"))
    op.drop_table("profiles")
    op.drop_table("nodes")
    op.drop_table("installation")
    op.drop_index("ix_events_worker", table_name="events")
    op.drop_index("ix_events_at", table_name="events")
    op.drop_table("events")
    op.drop_index("ix_claims_ended", table_name="claims")
    op.drop_table("claims")
