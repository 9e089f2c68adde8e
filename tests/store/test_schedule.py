"""Entries in SQL: the settings' with operators' words over them, changed by whom and from what, and never into nonsense."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from config.names import TICK_TASKS
from config.settings import Settings
from scheduler.errors import Refused
from scheduler.store import schedule
from scheduler.store.database import Database
from scheduler.store.schedule import NONE_YET, Asked
from scheduler.store.sync import apply_settings
from tests.conftest import MakeSettings

BY = "alice@desk"
SWEEP = "pool.sweep"
NIGHTLY = {"task": "reports.nightly", "cadence": "30 2 * * *", "zone": "Europe/Berlin", "args": ["all"]}


def cadences(db: Database) -> dict[str, str]:
    return {one.name: one.definition.cadence for one in schedule.entries(db)}


def rows(db: Database) -> list[dict[str, Any]]:
    return db.rows("select to_jsonb(s) as row from schedule s order by name")


def test_the_ticks_of_the_settings_are_entries(db: Database, settings: Settings) -> None:
    assert cadences(db) == {"pool.reap": "15s", "pool.reconcile": "5s", "pool.sweep": "10s"}
    found = schedule.entry(db, SWEEP)
    assert (found.definition.expires_s, found.is_own, found.drift, found.revision) == (10.0, False, {}, 1)
    assert (found.due_at - found.anchor_at).total_seconds() == 10
    before = rows(db)
    apply_settings(db, settings)
    assert rows(db) == before


@pytest.mark.usefixtures("settings")
def test_an_edit_is_kept_told_shown_as_drift_and_taken_back(db: Database) -> None:
    change = schedule.set_entry(db, SWEEP, {"cadence": "2000ms"}, by=BY)
    assert change.after is not None
    assert (change.after.definition.cadence, change.after.drift) == ("2s", {"cadence": ("10s", "2s")})
    assert (change.after.changed_by, change.after.revision) == (BY, 2)
    disabled = schedule.set_enabled(db, SWEEP, enabled=False, by=BY).after
    assert disabled is not None
    assert disabled.drift == {"cadence": ("10s", "2s"), "enabled": (True, False)}
    # To say what the settings say is to say nothing: it follows them again.
    schedule.set_enabled(db, SWEEP, enabled=True, by=BY)
    assert schedule.entry(db, SWEEP).overrides == {"cadence": "2s"}
    schedule.reset(db, SWEEP, by="bob@desk")
    assert schedule.entry(db, SWEEP).overrides == {}
    told = [
        (row["by"], row["before"]["cadence"], row["after"]["cadence"], row["after"]["enabled"])
        for row in schedule.history(db)
    ]
    assert told == [
        ("bob@desk", "2s", "10s", True),
        (BY, "2s", "2s", True),
        (BY, "2s", "2s", False),
        (BY, "10s", "2s", True),
    ]


@pytest.mark.usefixtures("settings")
def test_an_operators_own_is_added_and_removed(db: Database) -> None:
    added = schedule.set_entry(db, "nightly", NIGHTLY, by=BY, expected=NONE_YET)
    assert added.before is None
    assert added.after is not None
    assert (added.after.is_own, added.after.drift, added.after.definition.args) == (True, {}, ("all",))
    with pytest.raises(Refused, match="expected revision 0; got revision 1; look at it again"):
        schedule.set_entry(db, "nightly", NIGHTLY, by=BY, expected=NONE_YET)
    assert schedule.reset(db, "nightly", by=BY).after is None
    assert "nightly" not in cadences(db)
    assert [(row["kind"], row["after"] is None) for row in schedule.history(db, "nightly")] == [
        ("schedule.removed", True),
        ("schedule.changed", False),
    ]


@pytest.mark.usefixtures("settings")
def test_what_is_so_already_is_no_change(db: Database) -> None:
    schedule.set_entry(db, SWEEP, {"cadence": "2s"}, by=BY)
    before = rows(db)
    for again in (
        schedule.set_entry(db, SWEEP, {"cadence": "2.0s"}, by="bob@desk"),
        schedule.reset(db, "pool.reap", by="bob@desk"),
    ):
        assert again.before == again.after
    assert rows(db) == before
    assert len(schedule.history(db)) == 1


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("pool.swep", {"enabled": False}, "did you mean 'pool.sweep'?"),
        ("new", {"task": "a.b"}, "a new one needs a task and a cadence"),
        ("new", {"task": "a.b", "cadence": "5 parsecs"}, "neither an interval nor a crontab"),
        ("new", {"task": "a.b", "cadence": "1ms"}, "interval out of range"),
        ("new", {"task": "a.b", "cadence": "0 3 * * *", "zone": "Europe/Berlyn"}, "did you mean 'Europe/Berlin'?"),
        ("new", {"task": "a b", "cadence": "5s"}, "task: String should match"),
        ("new", {"task": "a.b", "cadence": "5s", "args": {"a": 1}}, "args"),
        ("new", {"task": "a.b", "cadence": "5s", "kwargs": {"a": float("nan")}}, "must be JSON"),
        ("new", {"task": "a.b", "cadence": "5s", "args": ["x" * 20_000]}, "at most 16384"),
        ("new", {"task": "a.b", "cadence": "5s", "args": ["\0"]}, "no character 0"),
        ("new", {"task": "a.b", "cadence": "5s", "args": ["\ud800"]}, "no half of a character"),
        ("new", {"task": "a.b", "cadence": "5s", "expires_s": 0}, "expires_s"),
        ("new", {"task": "a.b", "cadence": "5s", "queue": "no queue"}, "queue"),
        ("no name", {"task": "a.b", "cadence": "5s"}, "an entry cannot have this name"),
        (SWEEP, {"candence": "5s"}, "did you mean 'cadence'?"),
        (SWEEP, {"cadence": "11s"}, "expected an interval of at most 10s; got 11s; raise schedule.sweep_s"),
        (SWEEP, {"cadence": "* * * * *"}, "expected an interval of at most 10s"),
        (SWEEP, {"task": "other.task"}, "its task cannot be changed"),
    ],
)
@pytest.mark.usefixtures("settings")
def test_what_cannot_be_changes_nothing(db: Database, name: str, change: dict[str, Any], said: str) -> None:
    before = rows(db)
    with pytest.raises(Refused) as refused:
        schedule.set_entry(db, name, change, by=BY)
    assert said in str(refused.value)
    assert (rows(db), schedule.history(db)) == (before, [])


@pytest.mark.usefixtures("settings")
def test_of_many_who_saw_the_same_one_changes_it(db: Database) -> None:
    seen = schedule.entry(db, SWEEP)

    def edit(second: int) -> bool:
        try:
            schedule.set_entry(db, SWEEP, {"cadence": f"{second}s"}, by=BY, expected=seen.revision)
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(edit, range(1, 9))) == 1
    assert len(schedule.history(db)) == 1
    late: list[Callable[[], object]] = [
        lambda: schedule.set_enabled(db, SWEEP, enabled=False, by="bob", expected=seen.revision),
        lambda: schedule.reset(db, SWEEP, by="bob", expected=seen.revision),
    ]
    for edit_late in late:
        with pytest.raises(Refused, match=f"changed meanwhile by {BY}.*look at it again"):
            edit_late()


def test_new_settings_are_told_and_what_was_said_live_stays(
    db: Database, settings: Settings, make_settings: MakeSettings
) -> None:
    assert settings.schedule.sweep_s == 10.0
    schedule.set_entry(db, SWEEP, {"cadence": "2s"}, by=BY)
    schedule.set_entry(db, "mine", {"task": "a.b", "cadence": "1h"}, by=BY)
    changed = make_settings(schedule={"sweep_s": 8.0, "reap_s": 9.0, "entries": {"nightly": NIGHTLY}})
    apply_settings(db, changed)
    assert cadences(db) == {
        "mine": "1h",
        "nightly": "30 2 * * *",
        "pool.reap": "9s",
        "pool.reconcile": "5s",
        SWEEP: "2s",
    }
    assert schedule.entry(db, SWEEP).drift == {"cadence": ("8s", "2s")}
    assert schedule.entry(db, SWEEP).definition.expires_s == 8.0
    schedule.set_entry(db, "nightly", {"zone": "Asia/Tokyo"}, by=BY)
    apply_settings(db, make_settings())
    assert set(cadences(db)) == {"mine", *TICK_TASKS}
    by_settings = {(row["entry"], row["kind"]) for row in schedule.history(db) if row["by"] == schedule.BY_SETTINGS}
    assert ("nightly", "schedule.removed") in by_settings
    assert ("pool.reap", "schedule.changed") in by_settings


@pytest.mark.usefixtures("settings")
def test_of_two_who_ask_for_it_now_the_second_has_the_firsts(db: Database) -> None:
    first = schedule.request_run(db, SWEEP, by=BY)
    found = schedule.entry(db, SWEEP)
    assert first == Asked(found.asked_at, BY, is_new=True)
    assert schedule.request_run(db, SWEEP, by="bob@desk") == replace(first, is_new=False)
    with pytest.raises(Refused, match=r"did you mean 'pool\.sweep'"):
        schedule.request_run(db, "pool.swep", by=BY)


@pytest.mark.usefixtures("settings")
def test_each_edit_calls_whoever_listens(db: Database, database_url: str) -> None:
    with closing(psycopg.connect(database_url, autocommit=True)) as listener:
        listener.execute(f"listen {schedule.CHANNEL}")
        schedule.set_entry(db, SWEEP, {"cadence": "2s"}, by=BY)
        schedule.request_run(db, "pool.reap", by=BY)
        schedule.reset(db, SWEEP, by=BY)
        called = [notice.payload for notice in listener.notifies(timeout=10, stop_after=3)]
    assert called == [SWEEP, "pool.reap", SWEEP]


@pytest.mark.usefixtures("settings")
def test_an_entry_that_this_version_cannot_read_stops_no_other(db: Database) -> None:
    schedule.set_entry(db, "nightly", NIGHTLY, by=BY)
    db.rows("update schedule set overrides = overrides || '{\"zone\": \"Mars/Olympus\"}' where name = 'nightly'")
    broken = schedule.entry(db, "nightly")
    assert "Mars/Olympus" in broken.fault
    assert broken.scheduled is None
    assert schedule.entry(db, SWEEP).scheduled is not None
    schedule.set_entry(db, "nightly", {"zone": "UTC"}, by=BY)
    assert schedule.entry(db, "nightly").fault == ""
