"""Three ways to claim a worker on one and the same table: Stoker's, one bare statement, and seven round trips."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

from psycopg.rows import tuple_row

from scheduler.store import claims
from scheduler.store.claims import Claim
from scheduler.store.database import Database

if TYPE_CHECKING:
    from scheduler.store.database import Connection

PROFILE: Final = "bench@00000000"
LEASE: Final = timedelta(seconds=60)

# Constraints, indexes and triggers of the table are paid by all three.
_PICK: Final = """
select id from workers where profile = %(profile)s and state = 'idle' and not cordoned
order by node_first_seen, id limit 1 for update skip locked
"""
_TAKE: Final = """
update workers set state = 'activating', tenant = %(tenant)s, epoch = epoch + 1, state_since = now(), asked_at = now(),
       claimed_at = now(), lease_until = now() + %(lease)s, origin = 'warm'
"""
_STATEMENT: Final = f"{_TAKE} where id = ({_PICK}) returning id, epoch, endpoint, activation_key"
# Its live claims, by the one index that holds nothing but claimed workers: no more than there are clients.
_COUNT: Final = "select count(*) from workers where lease_until is not null and tenant = %(tenant)s"
_LOCK: Final = "select pg_advisory_xact_lock(hashtextextended(%(tenant)s, 0))"
_READ: Final = "select id, epoch, endpoint, activation_key from workers where id = %(id)s"


class Way(Protocol):
    """One way to claim."""

    def __call__(self, tenant: str) -> int | None:
        """Claim an idle worker for the tenant; its number, or None when there is none."""


def ways(dsn: str) -> dict[str, Way]:
    """The three, over one connection: the only one of a `Database`, as a process has it."""
    db = Database(dsn, connections=1, kept_open=1)
    with db.connection() as only:
        # Used by the baselines without the checkout that Stoker's own way pays at each call.
        connection = only
    return {"stoker": _stoker(db), "statement": _statement(connection), "seven_trips": _seven_trips(connection)}


WAYS: Final = ("stoker", "statement", "seven_trips")


def _stoker(db: Database) -> Way:
    """What `Pool.claim` calls."""

    def claim(tenant: str) -> int | None:
        found = claims.claim(db, tenant, PROFILE, waiter="", lease=LEASE)
        return found.worker_id if isinstance(found, Claim) else None

    return claim


def _statement(connection: Connection) -> Way:
    """The limit: one update of one row, with neither cap nor ticket nor hot-idle worker to look for."""

    def claim(tenant: str) -> int | None:
        row = _run(connection, _STATEMENT, profile=PROFILE, tenant=tenant, lease=LEASE)
        return None if row is None else int(row[0])

    return claim


def _seven_trips(connection: Connection) -> Way:
    """How it is done with a lock a tenant and a count: begin, lock, count, select, update, read again, commit."""

    def claim(tenant: str) -> int | None:
        _run(connection, "begin")
        try:
            _run(connection, _LOCK, tenant=tenant)
            _run(connection, _COUNT, tenant=tenant)
            row = _run(connection, _PICK, profile=PROFILE)
            if row is None:
                return None
            _run(connection, f"{_TAKE} where id = %(id)s", id=row[0], tenant=tenant, lease=LEASE)
            again = _run(connection, _READ, id=row[0])
            return None if again is None else int(again[0])
        finally:
            _run(connection, "commit")

    return claim


def _run(connection: Connection, sql: str, **values: object) -> tuple[Any, ...] | None:
    done = connection.cursor(row_factory=tuple_row).execute(sql.encode(), values, prepare=True)
    return done.fetchone() if done.pgresult is not None and done.pgresult.nfields else None
