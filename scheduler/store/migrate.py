"""Brings a database to this version: Alembic for the tables, then functions, triggers and views as sql/ has them now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from psycopg import errors

from scheduler.core import operations, states
from scheduler.errors import Temporary
from scheduler.store.revision import NEWEST, check_not_newer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_HERE: Final = Path(__file__).parent
# Two services that start at once migrate one after the other.
_MIGRATION_LOCK: Final = 0x53544F4B4552
_TRIES: Final = 10
_LOCK_S: Final = 5  # a table that is waited for keeps all others from it
_CLASHES: Final = (errors.DeadlockDetected, errors.LockNotAvailable)


def sqlalchemy_url(dsn: str) -> sa.URL:
    """The URL under which SQLAlchemy uses psycopg 3, whichever way the operator wrote it."""
    return sa.make_url(dsn).set(drivername="postgresql+psycopg")


@dataclass(frozen=True, slots=True)
class Migrated:
    """From which revision to which; None: there were no tables. Equal when there was nothing to change."""

    before: str | None
    after: str | None


def migrate(dsn: str, to: str = "head") -> Migrated:
    """Upgrade the tables and replace the functions, in one transaction under one lock. Up to date already: nothing changes.

    Services may work meanwhile. What clashes with them starts over: nothing was changed.

    Raises:
        Permanent: a later version has migrated the database. Nothing is changed.
        Temporary: the services' transactions did not let go of the tables in time. Nothing is changed.
    """
    engine = sa.create_engine(sqlalchemy_url(dsn), poolclass=sa.NullPool)
    try:
        for left in reversed(range(_TRIES)):
            try:
                with engine.begin() as connection:
                    return _migrate(connection, to)
            except sa.exc.OperationalError as clash:
                if not isinstance(clash.orig, _CLASHES):
                    raise
                if not left:
                    raise Temporary(
                        "the tables are in use",
                        expected=f"to have them within {_LOCK_S} s, in one of {_TRIES} tries",
                        got=str(clash.orig).strip(),
                        remedy="look for long transactions (pg_stat_activity), then run `stoker migrate` again",
                    ) from clash
        raise AssertionError
    finally:
        engine.dispose()


def alembic_config(connection: sa.Connection) -> Config:
    """Alembic on a connection that is already open, with the migrations of this package."""
    config = Config()
    config.set_main_option("script_location", str(_HERE / "migrations"))
    config.attributes["connection"] = connection
    return config


def functions() -> list[str]:
    """The statements of sql/, in the order of their names, with the tables of transitions written in."""
    tables = {"{transitions}": _pairs(states.TRANSITIONS), "{operation_transitions}": _pairs(operations.TRANSITIONS)}
    texts = [path.read_text() for path in sorted((_HERE / "sql").glob("*.sql"))]
    for name, pairs in tables.items():
        texts = [text.replace(name, pairs) for text in texts]
    return [text.replace("%", "%%") for text in texts]


def _migrate(connection: sa.Connection, to: str) -> Migrated:
    connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    connection.exec_driver_sql(f"set local lock_timeout = '{_LOCK_S} s'")
    before = _revision(connection)
    check_not_newer(before)
    if before != NEWEST and (tables := sa.inspect(connection).get_table_names()):
        # All at once and first: a step that waits for a table while it has changed another would clash with whoever has
        # that one and wants the other, and all its work would be for nothing.
        connection.exec_driver_sql(f"lock table {', '.join(sorted(tables))} in access exclusive mode")
    command.upgrade(alembic_config(connection), to)
    if to == "head":
        for text in functions():
            connection.exec_driver_sql(text)
    return Migrated(before, _revision(connection))


def _revision(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _pairs(transitions: Mapping[Any, Collection[Any]]) -> str:
    return ", ".join(f"('{state}', '{follower}')" for state, after in transitions.items() for follower in sorted(after))
