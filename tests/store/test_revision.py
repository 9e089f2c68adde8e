"""Tables of an earlier version are refused, those of a later one are lived with and never migrated; each step keeps its data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command

from config.settings import Settings
from scheduler.errors import Permanent, Temporary
from scheduler.store import revision
from scheduler.store.database import Database
from scheduler.store.migrate import Migrated, alembic_config, migrate, sqlalchemy_url
from scheduler.store.sync import apply_settings
from tests.support import profiles
from tests.support.filled import fill, kept, rows
from tests.support.fleet import Fleet
from tests.support.servers import Servers

LATER = "9999"


def move_to(url: str, to: str) -> None:
    engine = sa.create_engine(sqlalchemy_url(url), poolclass=sa.NullPool)
    with engine.begin() as connection:
        command.downgrade(alembic_config(connection), to)
    engine.dispose()


def mark(url: str, found: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("update alembic_version set version_num = %s", [found])


def revision_of(url: str) -> str | None:
    with psycopg.connect(url) as connection:
        return revision.revision(connection)


def functions(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select proname, prosrc from pg_proc where pronamespace = 'public'::regnamespace order by 1, 2"
        ).fetchall()


def run(servers: Servers, url: str, folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """A process of this version on that database."""
    config = profiles.write(folder / "stoker.toml", {"profiles": {"echo": profiles.echo()}})
    told = {
        "STOKER_CONFIG": str(config),
        "STOKER_STATE_DIR": str(servers.state_dir),
        "STOKER_DATABASE_URL": url,
        "STOKER_REDIS_URL": servers.redis_url or "",
    }
    env = {**os.environ, **{name: value for name, value in told.items() if value}}
    return subprocess.run([sys.executable, *argv], env=env, capture_output=True, text=True, timeout=60, check=False)


def cli(servers: Servers, url: str, folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return run(servers, url, folder, "-c", "from tasks.cli import main; main()", *argv)


def test_the_newest_revision_is_the_one_that_migrating_arrives_at(own_database_url: str) -> None:
    assert revision_of(own_database_url) == revision.NEWEST
    assert migrate(own_database_url) == Migrated(revision.NEWEST, revision.NEWEST)


def test_a_database_without_tables_has_no_revision(own_database_url: str) -> None:
    with psycopg.connect(own_database_url) as connection:
        connection.execute("drop schema public cascade; create schema public")
    assert revision_of(own_database_url) is None
    assert migrate(own_database_url) == Migrated(None, revision.NEWEST)


@pytest.mark.parametrize("step", range(1, len(revision.REVISIONS)))
def test_each_step_goes_down_and_up_and_keeps_all_that_is_not_its_own(
    own_database_url: str, settings: Settings, step: int
) -> None:
    fill(own_database_url, settings)
    before = rows(own_database_url)
    assert [table for table, held in before.items() if not held] == [], "tables that nothing is shown of; see `fill`"
    earlier, later = revision.REVISIONS[step - 1], revision.REVISIONS[step]
    move_to(own_database_url, later)
    later_rows = rows(own_database_url)
    assert kept(before, later_rows)
    move_to(own_database_url, earlier)
    assert revision_of(own_database_url) == earlier
    down = rows(own_database_url)
    # What a step down takes away are tables and columns: it takes no row from a table that stays, and changes none.
    assert kept(later_rows, down)
    assert down.keys() <= later_rows.keys()
    assert len(down["workers"]) == len(before["workers"])
    assert migrate(own_database_url) == Migrated(earlier, revision.NEWEST)
    after = rows(own_database_url)
    assert after.keys() == before.keys()
    assert kept(down, after)
    with closing(Database(own_database_url)) as db:
        apply_settings(db, settings)
        assert Fleet(db, settings).hold("acme").tenant == "acme"


@pytest.mark.parametrize("found", [None, *revision.REVISIONS[:-1]])
def test_earlier_tables_are_refused_with_the_remedy(found: str | None) -> None:
    with pytest.raises(Permanent, match="run `stoker migrate`"):
        revision.check_not_older(found)


@pytest.mark.parametrize("found", [revision.NEWEST, LATER])
def test_own_and_later_tables_are_worked_on(found: str) -> None:
    revision.check_not_older(found)


def test_later_tables_are_not_migrated(own_database_url: str) -> None:
    with psycopg.connect(own_database_url) as connection:
        connection.execute("create or replace function later() returns int language sql as 'select 1'")
    mark(own_database_url, LATER)
    before = functions(own_database_url)
    with pytest.raises(Permanent, match=f"got revision {LATER}"):
        migrate(own_database_url)
    assert functions(own_database_url) == before
    assert revision_of(own_database_url) == LATER


def test_a_worker_refuses_to_start_on_earlier_tables(servers: Servers, own_database_url: str, tmp_path: Path) -> None:
    mark(own_database_url, revision.REVISIONS[0])
    ended = run(
        servers,
        own_database_url,
        tmp_path,
        *["-m", "celery", "-A", "tasks", "worker", "-Q", "spawn", "-P", "threads", "-c", "1"],
    )
    assert ended.returncode != 0
    assert "run `stoker migrate`, then start the services" in ended.stdout + ended.stderr


def test_a_statement_whose_columns_a_migration_has_changed_is_prepared_anew(own_database_url: str) -> None:
    with closing(Database(own_database_url, connections=2)) as db, psycopg.connect(own_database_url) as later:
        later.execute("create view seen as select 1 as a")
        later.commit()
        for _ in range(4):
            assert db.rows("select * from seen") == [{"a": 1}]
        later.execute("create or replace view seen as select 1 as a, 2 as b")
        later.commit()
        assert db.rows("select * from seen") == [{"a": 1, "b": 2}]
        assert db.transaction(lambda connection: connection.execute("select * from seen").fetchall()) == [
            {"a": 1, "b": 2}
        ]


def test_tables_that_somebody_does_not_let_go_of_stay_as_they_are(
    own_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.store.migrate._LOCK_S", 0.05)
    monkeypatch.setattr("scheduler.store.migrate._TRIES", 3)
    move_to(own_database_url, revision.REVISIONS[-2])
    with psycopg.connect(own_database_url) as other:
        other.execute("select 1 from workers")  # until its transaction ends
        with pytest.raises(Temporary, match=r"within 0\.05 s, in one of 3 tries.*long transactions"):
            migrate(own_database_url)
        assert revision_of(own_database_url) == revision.REVISIONS[-2]
    assert migrate(own_database_url) == Migrated(revision.REVISIONS[-2], revision.NEWEST)


def test_check_tells_and_changes_nothing(servers: Servers, own_database_url: str, tmp_path: Path) -> None:
    def check() -> tuple[int, dict[str, Any]]:
        ended = cli(servers, own_database_url, tmp_path, "migrate", "--check", "--json")
        return ended.returncode, json.loads(ended.stdout)

    expected = {"found": revision.NEWEST, "expected": revision.NEWEST, "is_current": True}
    assert check() == (0, expected)
    move_to(own_database_url, revision.REVISIONS[-2])
    assert check() == (1, {**expected, "found": revision.REVISIONS[-2], "is_current": False})
    assert revision_of(own_database_url) == revision.REVISIONS[-2]


def test_migrate_says_from_where_to_where(servers: Servers, own_database_url: str, tmp_path: Path) -> None:
    move_to(own_database_url, revision.REVISIONS[-2])
    ended = cli(servers, own_database_url, tmp_path, "migrate")
    assert f"migrated from {revision.REVISIONS[-2]} to revision {revision.NEWEST}" in " ".join(ended.stdout.split())
    mark(own_database_url, LATER)
    refused = cli(servers, own_database_url, tmp_path, "migrate")
    assert refused.returncode == 1
    assert "newer than this version of Stoker" in " ".join(refused.stderr.split())
