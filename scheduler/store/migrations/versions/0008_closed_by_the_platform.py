"""which nodes the platform itself has closed to further workers"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward. A node of before is open until its platform says otherwise."""
    op.add_column("nodes", sa.Column("unschedulable", sa.Boolean(), server_default=sa.text("false"), nullable=False))


def downgrade() -> None:
    """Back."""
    op.drop_column("nodes", "unschedulable")
