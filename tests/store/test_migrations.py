"""The migrations make the tables that tables.py describes, down and up again, one at a time, on data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from config.settings import Settings
from scheduler.store.migrate import alembic_config, migrate, sqlalchemy_url
from scheduler.store.schema import metadata
from scheduler.store.sync import apply_settings
from tests.conftest import MakeSettings
from tests.support import profiles, racers
from tests.support.crowd import crowd
from tests.support.filled import fill
from tests.support.fleet import Fleet


@contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(sqlalchemy_url(url), poolclass=sa.NullPool)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def objects(url: str) -> list[tuple[object, ...]]:
    """Every table, view, function and trigger, with its definition where it has one."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select 'table', table_name, null from information_schema.tables where table_schema = 'public' union all"
            " select 'function', proname, prosrc from pg_proc where pronamespace = 'public'::regnamespace union all"
            " select 'trigger', tgname, pg_get_triggerdef(oid) from pg_trigger where not tgisinternal order by 1, 2, 3"
        ).fetchall()


def test_the_migrations_make_what_the_tables_say(own_database_url: str) -> None:
    with connected(own_database_url) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        found = [
            step
            for change in compare_metadata(context, metadata)
            for step in (change if isinstance(change, list) else [change])
        ]
    # Alembic compares defaults by their values, and two random keys are never the same.
    random = [("modify_default", None, *column) for column in (("workers", "activation_key"), ("operations", "token"))]
    assert [step for step in found if step[:4] not in random] == []


def test_migrating_again_changes_nothing(own_database_url: str) -> None:
    before = objects(own_database_url)
    migrate(own_database_url)
    assert objects(own_database_url) == before


def test_down_on_data_and_up_again(own_database_url: str, settings: Settings) -> None:
    before = objects(own_database_url)
    fill(own_database_url, settings)
    with connected(own_database_url) as connection:
        command.downgrade(alembic_config(connection), "base")
    assert [(kind, name) for kind, name, _ in objects(own_database_url)] == [("table", "alembic_version")]
    migrate(own_database_url)
    assert objects(own_database_url) == before


def test_processes_that_start_at_once_migrate_one_after_the_other(own_database_url: str) -> None:
    before = objects(own_database_url)
    with psycopg.connect(own_database_url) as connection:
        connection.execute("drop schema public cascade; create schema public")
    crowd(racers.bring_up_to_date, [(own_database_url,)] * 4)
    assert objects(own_database_url) == before


def test_settings_carried_in_twice_change_nothing(fleet: Fleet, settings: Settings) -> None:
    apply_settings(fleet.db, settings)
    before = fleet.db.rows("select to_jsonb(p) as row from profiles p order by name")
    apply_settings(fleet.db, settings)
    assert fleet.db.rows("select to_jsonb(p) as row from profiles p order by name") == before


def test_a_changed_profile_closes_the_old_kind_and_a_change_back_opens_it(
    fleet: Fleet, make_settings: MakeSettings
) -> None:
    def current() -> set[str]:
        return {row["name"] for row in fleet.db.rows("select name from profiles where is_current")}

    old = current()
    changed = make_settings(profiles={"echo": profiles.echo(memory="9Mi")})
    apply_settings(fleet.db, changed)
    assert current() == {changed.profiles["echo"].canonical}
    apply_settings(fleet.db, fleet.settings)
    assert current() == old


def test_a_lowered_cap_ends_no_claim_and_holds_for_the_next(fleet: Fleet, make_settings: MakeSettings) -> None:
    fleet.idle(3)
    held = [fleet.hold("acme"), fleet.hold("acme")]
    apply_settings(fleet.db, make_settings(tenants={"caps": {"acme": {"max_workers": 1}}}))
    assert fleet.claim("acme") == "tenant_cap"
    fleet.release(held[0])
    assert fleet.claim("acme") == "tenant_cap"
    fleet.release(held[1])
    assert fleet.claim("acme") not in {"tenant_cap", "no_warm"}
