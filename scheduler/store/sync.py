"""Carries the settings into the database: tenants' caps and the profiles in force. Running it twice changes nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.settings import Settings
    from scheduler.store.database import Connection, Database


def apply_settings(db: Database, settings: Settings) -> None:
    """Make the database's tenants and profiles those of the settings; profiles no longer held are closed, not deleted."""

    def work(connection: Connection) -> None:
        # One at a time: two starting services would each close the other's rows half-way.
        connection.execute("select pg_advisory_xact_lock(hashtextextended('stoker:apply_settings', 0))")
        for tenant, facts in settings.tenants.caps.items():
            connection.execute(
                "insert into tenants as t (name, max_workers, ceiling) values (%(name)s, %(cap)s, nullif(%(cap)s, 0))"
                " on conflict (name) do update set max_workers = excluded.max_workers,"
                " ceiling = greatest(excluded.ceiling, case when excluded.max_workers > 0 then t.live end)"
                " where t.max_workers <> excluded.max_workers",
                {"name": tenant, "cap": facts.max_workers},
            )
        connection.execute(
            "update tenants set max_workers = %(cap)s, ceiling = case when %(cap)s > 0 then greatest(%(cap)s, live) end"
            " where name <> all(%(named)s) and max_workers <> %(cap)s",
            {"cap": settings.tenants.default_max_workers, "named": list(settings.tenants.caps)},
        )
        connection.execute(
            "update profiles set is_current = false where is_current and name <> all(%(names)s)",
            {"names": [profile.canonical for profile in settings.profiles.values()]},
        )
        for profile in settings.profiles.values():
            connection.execute(
                "insert into profiles (name, family, spec, floor, max_workers) values"
                " (%(name)s, %(family)s, %(spec)s::jsonb, %(floor)s, %(cap)s) on conflict (name) do update set"
                " spec = excluded.spec, floor = excluded.floor, max_workers = excluded.max_workers, is_current = true",
                {
                    "name": profile.canonical,
                    "family": profile.name,
                    "spec": json.dumps(profile.spec()),
                    "floor": profile.floor,
                    "cap": profile.max_workers,
                },
            )

    db.transaction(work)
