"""the classes of work, and what operators change of them"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "queues",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("bound_s", sa.Float(), nullable=False),
        sa.Column("reserve", sa.Float(), nullable=False),
        sa.Column("override_bound_s", sa.Float(), nullable=True),
        sa.Column("override_reserve", sa.Float(), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("changed_by", sa.Text(), nullable=True),
        sa.CheckConstraint("(changed_at is null) = (changed_by is null)", name=op.f("ck_queues_changed_by_somebody")),
        sa.CheckConstraint("bound_s between 0.001 and 86400", name=op.f("ck_queues_bound_fits")),
        sa.CheckConstraint("name ~ '^[a-z][a-z0-9_-]*$'", name=op.f("ck_queues_name_is_a_class")),
        sa.CheckConstraint("override_bound_s between 0.001 and 86400", name=op.f("ck_queues_override_bound_fits")),
        sa.CheckConstraint(
            "override_reserve >= 0 and override_reserve < 1", name=op.f("ck_queues_override_reserve_is_a_share")
        ),
        sa.CheckConstraint("rank >= 0", name=op.f("ck_queues_rank_is_no_debt")),
        sa.CheckConstraint("reserve >= 0 and reserve < 1", name=op.f("ck_queues_reserve_is_a_share")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_queues")),
        sa.UniqueConstraint("rank", deferrable=True, initially="IMMEDIATE", name=op.f("uq_queues_rank")),
    )


def downgrade() -> None:
    """Back."""
    op.drop_table("queues")
    op.execute("drop function if exists guard_queue")
