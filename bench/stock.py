"""A table filled with idle workers of one profile, as it is after a while of service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterable

NODES: Final = 100  # that the workers stand on, a thousand each where there are 100,000

_PROFILE: Final = (
    "insert into profiles (name, family, spec, floor, max_workers)"
    " values (%(profile)s, %(profile)s, '{}', 0, 0) on conflict do nothing"
)
_IDLE: Final = """
insert into workers (profile, state, node, node_first_seen, endpoint, handle, launched_at, ready_at)
select %(profile)s, 'idle', 'node-' || place, now() - make_interval(hours => place),
       'http://127.0.0.1:' || 20000 + n %% 10000, jsonb_build_object('pid', n), now(), now()
from (select n, (random() * %(nodes)s)::int as place from generate_series(1, %(count)s) n) placed
"""


class Stock:
    """The workers of one database, and the tenants who may claim them."""

    def __init__(self, dsn: str, profile: str) -> None:
        self.dsn = dsn
        self._profile = profile
        self._connection = psycopg.connect(dsn, autocommit=True)

    def close(self) -> None:
        """Close the connection; what it wrote stays."""
        self._connection.close()

    def fill(self, *, idle: int, tenants: Iterable[str] = ()) -> None:
        """So many idle workers and nothing else; then vacuumed and analyzed, as autovacuum would have."""
        self._connection.execute("truncate workers, tickets, claims, events, tenants")
        self._connection.execute(_PROFILE, {"profile": self._profile})
        self._connection.execute("insert into tenants (name) select unnest(%s::text[])", [list(tenants)])
        self._add(idle)
        self._connection.execute("vacuum (analyze) workers, tenants, tickets")

    def replace(self) -> None:
        """Put a new idle worker, on a node of any age, in the place of each one that was claimed.

        One that has met a tenant is never neutral again, so its row goes.
        """
        self._add(self._connection.execute("delete from workers where state <> 'idle'").rowcount)
        self._connection.execute("update tenants set live = 0 where live > 0")

    def _add(self, idle: int) -> None:
        self._connection.execute(_IDLE, {"profile": self._profile, "count": idle, "nodes": NODES})
