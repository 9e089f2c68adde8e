"""The tables of beat: what is to be sent and when, who sends it, and what was sent."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from scheduler.store.tables import NOW, Time, metadata

_IN_FORCE = "(settings || overrides)"
_EMPTY = text("'{}'::jsonb")

# An entry is what the settings say ('{}': it is an operator's own), with what operators have said over it.
schedule = Table(
    "schedule",
    metadata,
    Column("name", Text, primary_key=True),
    Column("settings", JSONB, nullable=False, server_default=_EMPTY),
    Column("overrides", JSONB, nullable=False, server_default=_EMPTY),
    Column("revision", BigInteger, nullable=False, server_default=text("1")),
    Column("created_at", Time, nullable=False, server_default=NOW),
    Column("changed_at", Time),
    Column("changed_by", Text),
    Column("anchor_at", Time, nullable=False),  # where an interval counts from: the last time that it was sent for
    Column("due_at", Time, nullable=False),
    Column("asked_at", Time),
    Column("asked_by", Text),
    Column("sent", BigInteger, nullable=False, server_default=text("0")),
    Column("missed", BigInteger, nullable=False, server_default=text("0")),
    CheckConstraint("name ~ '^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$'", name="name_fits"),
    CheckConstraint(
        f"{_IN_FORCE} ?& array['task', 'cadence', 'zone', 'args', 'kwargs', 'queue', 'expires_s', 'enabled']",
        name="says_all",
    ),
    CheckConstraint(
        f"jsonb_typeof({_IN_FORCE} -> 'task') = 'string' and jsonb_typeof({_IN_FORCE} -> 'cadence') = 'string'"
        f" and jsonb_typeof({_IN_FORCE} -> 'args') = 'array' and jsonb_typeof({_IN_FORCE} -> 'kwargs') = 'object'"
        f" and jsonb_typeof({_IN_FORCE} -> 'enabled') = 'boolean'",
        name="can_be_sent",
    ),
    CheckConstraint("due_at > anchor_at", name="due_after_its_anchor"),
    CheckConstraint("(asked_at is null) = (asked_by is null)", name="asked_by_somebody"),
    CheckConstraint("(changed_at is null) = (changed_by is null)", name="changed_by_somebody"),
    CheckConstraint("revision > 0 and sent >= 0 and missed >= 0", name="counts_are_no_debts"),
)

# Who sends: at most one, by this row's epoch. Its session stands here because a session ends with its process.
beat_lease = Table(
    "beat_lease",
    metadata,
    Column("singleton", Boolean, primary_key=True, server_default=text("true")),
    Column("epoch", BigInteger, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("backend_pid", Integer, nullable=False),
    Column("backend_start", Time, nullable=False),
    Column("since", Time, nullable=False),
    Column("renewed_at", Time, nullable=False),
    Column("until", Time, nullable=False),
    CheckConstraint("singleton", name="one_row"),
    CheckConstraint("until > renewed_at and renewed_at >= since", name="time_runs_forward"),
)

# What was claimed, with all that it takes to send it, so that another can. Not done: it may not have been sent.
ticks = Table(
    "ticks",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("entry", Text, nullable=False),
    Column("due_at", Time, nullable=False),
    Column("task_id", Uuid(as_uuid=False), nullable=False),
    Column("task", Text, nullable=False),
    Column("args", JSONB, nullable=False),
    Column("kwargs", JSONB, nullable=False),
    Column("queue", Text),
    Column("expires_s", Float),
    Column("missed", Integer, nullable=False),
    Column("asked_by", Text),  # null: its time had come
    Column("epoch", BigInteger, nullable=False),
    Column("claimed_at", Time, nullable=False, server_default=text("clock_timestamp()")),
    Column("done_at", Time),
    Column("error", Text),  # why it was never sent
    UniqueConstraint("entry", "due_at"),
    UniqueConstraint("task_id"),
    CheckConstraint("missed >= 0", name="missed_is_no_debt"),
    CheckConstraint("error is null or done_at is not null", name="failed_is_done"),
)
Index("ix_ticks_undone", ticks.c.id, postgresql_where=text("done_at is null"))
Index("ix_ticks_claimed", ticks.c.claimed_at)
