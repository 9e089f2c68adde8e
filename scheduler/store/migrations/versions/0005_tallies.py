"""counters that outlive the processes that count, and which runs and operations they have counted"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_COUNTED = ("runs", "operations")


def upgrade() -> None:
    """Forward. What had ended before is history, and is counted by nobody."""
    op.create_table(
        "tallies",
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("labels", JSONB(), nullable=False),
        sa.Column("edge", sa.Float(), nullable=False),
        sa.Column("many", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Float(), nullable=False),
        sa.CheckConstraint("many >= 0 and total >= 0", name=op.f("ck_tallies_counts_up")),
        sa.CheckConstraint("jsonb_typeof(labels) = 'object'", name=op.f("ck_tallies_labels_have_names")),
        sa.PrimaryKeyConstraint("metric", "labels", "edge", name=op.f("pk_tallies")),
        postgresql_with={"fillfactor": "50"},
    )
    for table in _COUNTED:
        op.add_column(table, sa.Column("counted", sa.Boolean(), server_default=sa.text("true"), nullable=False))
        op.alter_column(table, "counted", server_default=sa.text("false"))
        op.create_index(
            f"ix_{table}_uncounted",
            table,
            ["ended_at"],
            postgresql_where=sa.text("ended_at is not null and not counted"),
        )
    op.execute("update runs set counted = false where ended_at is null")
    op.execute("update operations set counted = false where ended_at is null")
    op.add_column("runs", sa.Column("folded_at_worker", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_check_constraint(
        op.f("ck_runs_folded_somewhere"), "runs", "folded_at_worker between 0 and greatest(folded, 0)"
    )


def downgrade() -> None:
    """Back."""
    op.drop_constraint(op.f("ck_runs_folded_somewhere"), "runs")
    op.drop_column("runs", "folded_at_worker")
    for table in _COUNTED:
        op.drop_index(f"ix_{table}_uncounted", table)
        op.drop_column(table, "counted")
    op.drop_table("tallies")
    op.execute("drop function if exists count_ended")
    op.execute("drop function if exists tally")
