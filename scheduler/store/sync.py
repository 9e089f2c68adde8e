"""Carries the settings into the database: caps of tenants, profiles, queues, the schedule. Running it twice changes nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from scheduler.store import queues, schedule

if TYPE_CHECKING:
    from config.settings import Settings
    from scheduler.store.database import Connection, Database


def apply_settings(db: Database, settings: Settings) -> None:
    """Make the database's tenants, profiles, queues and schedule those of the settings; old profiles are closed, not deleted.

    Raises:
        Refused: with what operators have changed by hand, the reserves of the queues are too much, or an entry is none.
    """
    queues.apply(db, settings.queues)
    schedule.apply(db, settings.schedule.everything)
    _apply_caps(db, settings)
    _apply_profiles(db, settings)


def _apply_caps(db: Database, settings: Settings) -> None:
    known = {row["name"]: row["max_workers"] for row in db.rows("select name, max_workers from tenants")}
    wanted = {tenant: settings.tenant_cap(tenant) for tenant in {*known, *settings.tenants.caps}}
    for tenant, cap in sorted(wanted.items()):
        if known.get(tenant) != cap:
            # A transaction each: it waits for the claims that this tenant has in hand, and for no other's.
            db.rows("select set_cap(%(tenant)s, %(cap)s)", tenant=tenant, cap=cap)


def _apply_profiles(db: Database, settings: Settings) -> None:
    def work(connection: Connection) -> None:
        # One at a time: two starting services would each close the other's rows half-way.
        connection.execute("select pg_advisory_xact_lock(hashtextextended('stoker:apply_settings', 0))")
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
