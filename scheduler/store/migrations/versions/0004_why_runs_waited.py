"""how long each run waited, how often it gave way, and for whom it ran beside its own"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# sql/ makes the one that takes more; beside it, this one would stay.
_DROP_BEGIN_RUN = "drop function if exists begin_run"


def upgrade() -> None:
    """Forward. Of runs before it is known for how many they ran, and not how long they had waited."""
    op.execute(_DROP_BEGIN_RUN)
    op.add_column("runs", sa.Column("wait_s", sa.Float(), nullable=True))
    op.add_column("runs", sa.Column("defers", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("runs", sa.Column("folded", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.execute("update runs set folded = served - 1 where served > 1")
    op.create_check_constraint(
        op.f("ck_runs_waits_are_no_debts"), "runs", "wait_s >= 0 and defers >= 0 and folded >= 0"
    )


def downgrade() -> None:
    """Back."""
    op.execute(_DROP_BEGIN_RUN)
    op.drop_constraint(op.f("ck_runs_waits_are_no_debts"), "runs")
    op.drop_column("runs", "folded")
    op.drop_column("runs", "defers")
    op.drop_column("runs", "wait_s")
