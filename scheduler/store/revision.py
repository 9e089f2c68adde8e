"""Which revision of the tables a database has, and which this version is made for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, LiteralString, cast

from psycopg.errors import UndefinedTable

from scheduler.errors import Permanent

if TYPE_CHECKING:
    from psycopg import Connection

# Read from the names of the files: to ask Alembic for them costs every start half a second.
REVISIONS: Final = tuple(
    sorted(
        path.name.partition("_")[0] for path in (Path(__file__).parent / "migrations" / "versions").glob("[0-9]*_*.py")
    )
)
NEWEST: Final = REVISIONS[-1]

_REVISION: LiteralString = "select version_num from alembic_version"


def revision(connection: Connection[Any]) -> str | None:
    """The revision that the database's tables are at; None if it has never been migrated."""
    try:
        with connection.transaction(), connection.cursor() as cursor:
            row = cursor.execute(_REVISION).fetchone()
    except UndefinedTable:
        return None
    if row is None:
        return None
    return cast("str", row["version_num"] if isinstance(row, dict) else row[0])


def is_newer(found: str | None) -> bool:
    """Whether a later version of Stoker has migrated the database to what this one does not know."""
    return found is not None and found not in REVISIONS


def check_not_older(found: str | None) -> None:
    """Refuse to work on tables that lack what this version reads and writes.

    Newer ones are no fault: while services are exchanged one by one, those of the version before run on the new tables.

    Raises:
        Permanent: the database was never migrated, or last by an earlier version.
    """
    if found != NEWEST and not is_newer(found):
        raise Permanent(
            "the database's tables are older than this version of Stoker",
            expected=f"revision {NEWEST}",
            got=f"revision {found}" if found else "none: it was never migrated",
            remedy="run `stoker migrate`, then start the services",
        )


def check_not_newer(found: str | None) -> None:
    """Refuse to migrate what a later version has migrated: this one would put its older functions over the newer.

    Raises:
        Permanent: the database is at a revision that this version does not have.
    """
    if is_newer(found):
        raise Permanent(
            "the database's tables are newer than this version of Stoker",
            expected=f"revision {NEWEST} or an earlier one",
            got=f"revision {found}",
            remedy="migrate with the version that the services are to have; docs/upgrading.md says how to go back",
        )
