"""Brings a database to this version: Alembic for the tables, then functions, triggers and views as sql/ has them now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext

from scheduler.core import operations, states
from scheduler.store.revision import check_not_newer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_HERE: Final = Path(__file__).parent
# Two services that start at once migrate one after the other.
_MIGRATION_LOCK: Final = 0x53544F4B4552


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

    Raises:
        Permanent: a later version has migrated the database. Nothing is changed.
    """
    engine = sa.create_engine(sqlalchemy_url(dsn), poolclass=sa.NullPool)
    try:
        with engine.begin() as connection:
            connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            before = _revision(connection)
            check_not_newer(before)
            command.upgrade(alembic_config(connection), to)
            if to == "head":
                for text in functions():
                    connection.exec_driver_sql(text)
            return Migrated(before, _revision(connection))
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


def _revision(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _pairs(transitions: Mapping[Any, Collection[Any]]) -> str:
    return ", ".join(f"('{state}', '{follower}')" for state, after in transitions.items() for follower in sorted(after))
