"""the schedule of beat, who sends it, and what was sent"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "beat_lease",
        sa.Column("singleton", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("backend_pid", sa.Integer(), nullable=False),
        sa.Column("backend_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("singleton", name=op.f("ck_beat_lease_one_row")),
        sa.CheckConstraint("until > renewed_at and renewed_at >= since", name=op.f("ck_beat_lease_time_runs_forward")),
        sa.PrimaryKeyConstraint("singleton", name=op.f("pk_beat_lease")),
    )
    op.create_table(
        "schedule",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "settings", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "overrides", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("revision", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("changed_by", sa.Text(), nullable=True),
        sa.Column("anchor_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("asked_by", sa.Text(), nullable=True),
        sa.Column("sent", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("missed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint(
            "(settings || overrides) ?& array['task', 'cadence', 'zone', 'args', 'kwargs', 'queue', 'expires_s', 'enabled']",
            name=op.f("ck_schedule_says_all"),
        ),
        sa.CheckConstraint(
            "jsonb_typeof((settings || overrides) -> 'task') = 'string' and jsonb_typeof((settings || overrides) -> 'cadence') = 'string' and jsonb_typeof((settings || overrides) -> 'args') = 'array' and jsonb_typeof((settings || overrides) -> 'kwargs') = 'object' and jsonb_typeof((settings || overrides) -> 'enabled') = 'boolean'",
            name=op.f("ck_schedule_can_be_sent"),
        ),
        sa.CheckConstraint("name ~ '^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$'", name=op.f("ck_schedule_name_fits")),
        sa.CheckConstraint("(asked_at is null) = (asked_by is null)", name=op.f("ck_schedule_asked_by_somebody")),
        sa.CheckConstraint("(changed_at is null) = (changed_by is null)", name=op.f("ck_schedule_changed_by_somebody")),
        sa.CheckConstraint("due_at > anchor_at", name=op.f("ck_schedule_due_after_its_anchor")),
        sa.CheckConstraint("revision > 0 and sent >= 0 and missed >= 0", name=op.f("ck_schedule_counts_are_no_debts")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_schedule")),
    )
    op.create_table(
        "ticks",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("task_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("args", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("kwargs", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("queue", sa.Text(), nullable=True),
        sa.Column("expires_s", sa.Float(), nullable=True),
        sa.Column("missed", sa.Integer(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column(
            "claimed_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("error is null or done_at is not null", name=op.f("ck_ticks_failed_is_done")),
        sa.CheckConstraint("missed >= 0", name=op.f("ck_ticks_missed_is_no_debt")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ticks")),
        sa.UniqueConstraint("entry", "due_at", name=op.f("uq_ticks_entry_due_at")),
        sa.UniqueConstraint("task_id", name=op.f("uq_ticks_task_id")),
    )
    op.create_index("ix_ticks_claimed", "ticks", ["claimed_at"], unique=False)
    op.create_index("ix_ticks_undone", "ticks", ["id"], unique=False, postgresql_where=sa.text("done_at is null"))


def downgrade() -> None:
    """Back."""
    op.drop_table("ticks")
    op.drop_table("beat_lease")
    op.drop_table("schedule")
    op.execute("drop function if exists guard_tick, guard_beat")
