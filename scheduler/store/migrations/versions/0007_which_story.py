"""which claim or submit each row follows from"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_CHECKED = ("workers", "tickets", "operations")
_FOUND_BY = ("claims", "events", "operations")
# Beside these stand those of fewer arguments, which the version before calls: on the way down they stay.
_LONGER = (
    "claim_worker(text, text, text, interval, text)",
    "take_ticket(text, text, text, text, interval, int, text)",
    "submit_operation(text, text, text, int, jsonb, jsonb, bigint[], bigint[], text)",
)


def upgrade() -> None:
    """Forward. Of what was asked for before it is not known."""
    for table in ("workers", "tickets", "claims", "events", "operations"):
        op.add_column(table, sa.Column("correlation_id", sa.Text(), nullable=True))
    for table in _CHECKED:
        op.create_check_constraint(op.f(f"ck_{table}_correlation_is_short"), table, "correlation_id ~ '^[!-~]{1,64}$'")
    for table in _FOUND_BY:
        op.create_index(
            f"ix_{table}_correlation", table, ["correlation_id"], postgresql_where=sa.text("correlation_id is not null")
        )


def downgrade() -> None:
    """Back. The views go first, for they read the columns; `stoker migrate` of the version before makes its own."""
    op.execute("drop view if exists every_claim, every_operation")
    for function in _LONGER:
        op.execute(f"drop function if exists {function}")
    for table in ("workers", "tickets", "claims", "events", "operations"):
        op.drop_column(table, "correlation_id")
