"""`stoker schedule` on a real PostgreSQL: what it shows, what an edit changes, and that a wrong one changes nothing."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from scheduler.core.schedule import Tick
from scheduler.store import beat, schedule
from scheduler.store.database import Database
from tasks import operation_tasks, pool_tasks, ticks  # noqa: F401 - a command knows of the tasks that are registered
from tasks.cli import schedule_views as views
from tasks.cli.schedule_checks import faults
from tasks.context import Context
from tests.support.commands import Ended, here, words
from tests.support.eventually import eventually

SWEEP = "pool.sweep"
NIGHTLY = ("set", "nightly", "--task", "network.show", "--cron", "30 2 * * *", "--zone", "Europe/Berlin")

EVIL = {
    "nothing to set": (("set", SWEEP), "nothing to set"),
    "no such entry": (("set", "pool.swep", "--every", "2s"), "did you mean 'pool.sweep'?"),
    "no cadence": (("set", "new", "--task", "network.show"), "a new one needs a task and a cadence"),
    "no task": (("set", "new", "--every", "5s"), "a new one needs a task and a cadence"),
    "no name": (("set", "no name", "--task", "network.show", "--every", "5s"), "name"),
    "two cadences": (("set", SWEEP, "--every", "2s", "--cron", "* * * * *"), "two cadences"),
    "no interval": (("set", SWEEP, "--every", "soon"), "neither an interval nor a crontab"),
    "an empty interval": (("set", SWEEP, "--every", ""), "neither an interval nor a crontab"),
    "an empty zone": (("set", "nightly", "--zone", ""), "time zone '' is unknown"),
    "a zone of nothing": (("set", "new", "--zone", "UTC"), "a new one needs a task and a cadence"),
    "no unit": (("set", SWEEP, "--every", "2"), "write an interval like 500ms"),
    "too often": (("set", SWEEP, "--every", "1ms"), "interval out of range; expected 0.1 s to 31 days"),
    "too rare": (("set", "nightly", "--every", "800h"), "interval out of range"),
    "not as often as the leases need": (("set", SWEEP, "--every", "11s"), "expected an interval of at most 10s"),
    "a crontab for an interval": (("set", SWEEP, "--every", "* * * * *"), "give it as --cron"),
    "an interval for a crontab": (("set", "nightly", "--cron", "5min"), "give it as --every"),
    "no crontab": (("set", "nightly", "--cron", "61 2 * * *"), "the minute is wrong; expected 0-59"),
    "never": (("set", "nightly", "--cron", "0 0 30 2 *"), "the day-of-month is wrong"),
    "no zone": (("set", "nightly", "--zone", "Europe/Berlyn"), "did you mean 'Europe/Berlin'?"),
    "a zone of an interval": (("set", SWEEP, "--zone", "Europe/Berlin"), "an interval has no time zone"),
    "unknown task": (("set", "nightly", "--task", "network.shwo"), "did you mean 'network.show'?"),
    "a task of Celery": (("set", "nightly", "--task", "celery.chain"), "task 'celery.chain' is unknown"),
    "the task of a tick": (("set", SWEEP, "--task", "pool.reap"), "its task cannot be changed"),
    "an argument too few": (("set", "nightly", "--task", "pool.claim"), "does not take these arguments"),
    "an argument too many": (("set", "nightly", "--args", '["blue", 1]'), "network.show does not take these arguments"),
    "no such argument": (("set", "nightly", "--kwargs", '{"colour": "blue"}'), "does not take these arguments"),
    "no JSON": (("set", "nightly", "--args", "[blue]"), "args is no JSON"),
    "no array": (("set", "nightly", "--args", '{"network": "blue"}'), "expected a JSON array"),
    "no object": (("set", "nightly", "--kwargs", "[]"), "expected a JSON object"),
    "no number of JSON's": (("set", "nightly", "--args", "[NaN]"), "JSON"),
    "an endless number": (("set", "nightly", "--args", "[1e999]"), "JSON"),
    "what SQL cannot hold": (("set", "nightly", "--args", r'["\u0000"]'), "JSON"),
    "half a character": (("set", "nightly", "--kwargs", r'{"network": "\ud800"}'), "JSON"),
    "too deep": (("set", "nightly", "--args", "[" * 8_000 + "]" * 8_000), "JSON"),
    "too large": (("set", "nightly", "--args", json.dumps(["x" * 17_000])), "at most 16384 characters"),
    "unknown queue": (("set", "nightly", "--queue", "backgroud"), "did you mean 'background'?"),
    "no expiry": (("set", "nightly", "--expires", "soon"), "write it like 30s or 5min"),
    "expired at once": (("set", "nightly", "--expires", "0s"), "expires_s"),
    "another revision": (("set", SWEEP, "--every", "2s", "--revision", "7"), "expected revision 7; got revision 1"),
    "another revision to reset": (("reset", "nightly", "--revision", "7"), "look at it again"),
    "another revision to disable": (("disable", SWEEP, "--revision", "7"), "look at it again"),
    "enable nothing": (("enable", "nightli"), "did you mean 'nightly'?"),
    "run nothing": (("run-now", "pool.reep"), "did you mean 'pool.reap'?"),
    "reset nothing": (("reset", "nightly2"), "did you mean 'nightly'?"),
    "show nothing": (("show", "nightli"), "did you mean 'nightly'?"),
    "history of nothing": (("history", "nightli"), "did you mean 'nightly'?"),
    "no such command": (("sett", SWEEP), "No such command 'sett'"),
    "a dry run of nonsense": (("set", SWEEP, "--every", "1ms", "--dry-run"), "interval out of range"),
}


@dataclass
class Desk:
    """Where the commands are given: a database with the schedule of the settings, and no beat."""

    context: Context

    def says(self, *arguments: str, width: int = 80) -> Ended:
        ended = here(self, "schedule", *arguments, width=width)
        assert (ended.returncode, ended.stderr) == (0, ""), ended
        assert max(map(len, ended.stdout.splitlines())) <= width, ended.stdout
        return ended

    def json(self, *arguments: str) -> Any:
        return json.loads(self.says(*arguments, "--json", width=10_000).stdout)

    def facts(self) -> object:
        db = self.context.db
        return db.rows("select to_jsonb(s) from schedule s order by name"), schedule.history(db), schedule.ticks(db)


@pytest.fixture
def desk(context: Context) -> Desk:
    return Desk(context)


def test_what_there_is_without_a_beat(desk: Desk) -> None:
    seen = desk.json("list")
    assert seen["beat"] is None
    assert [(one["entry"], one["cadence"], one["zone"], one["queue"], one["enabled"]) for one in seen["entries"]] == [
        ("pool.reap", "15s", None, "control", True),
        ("pool.reconcile", "5s", None, "control", True),
        ("pool.sweep", "10s", None, "control", True),
    ]
    assert all(one["last_at"] is None and one["differs"] == {} and not one["is_own"] for one in seen["entries"])
    assert desk.json() == seen
    shown = words(desk.says())
    assert "no beat is active: nothing is sent until one runs" in shown
    assert "pool.sweep 10s - control -" in shown


def test_an_edit_says_what_was_and_is_and_when_it_is_due(desk: Desk) -> None:
    before = schedule.now(desk.context.db)
    told = desk.json("set", SWEEP, "--every", "2s", "--expires", "-")
    assert (told["changed"], told["dry_run"], told["revision"]) == (True, False, 2)
    assert (told["before"]["cadence"], told["after"]["cadence"]) == ("10s", "2s")
    due = [datetime.fromisoformat(at) for at in told["next"]]
    assert {later - one for one, later in pairwise(due)} == {timedelta(seconds=2)}
    assert len(due) == 5
    assert before < due[0] <= schedule.now(desk.context.db) + timedelta(seconds=2)
    assert words(desk.says("set", SWEEP, "--every", "2000ms")).startswith("pool.sweep: is so already next times")
    shown = words(desk.says())
    assert "pool.sweep* 2s" in shown
    assert "* pool.sweep: cadence is 2s, and 10s in the settings" in shown
    assert "* pool.sweep: expires_s is -, and 10.0 in the settings" in shown
    (row,) = [one for one in desk.json("list")["entries"] if one["entry"] == SWEEP]
    assert row["differs"] == {
        "cadence": {"settings": "10s", "live": "2s"},
        "expires_s": {"settings": 10.0, "live": None},
    }
    assert row["changed_by"] in shown
    back = words(desk.says("reset", SWEEP))
    assert "pool.sweep: cadence 2s -> 10s pool.sweep: expires_s - -> 10.0" in back
    assert "differ" not in words(desk.says())


def test_a_crontab_is_shown_on_the_clock_of_its_zone(desk: Desk) -> None:
    told = words(desk.says(*NIGHTLY))
    assert told.startswith("nightly: added: task network.show")
    assert "Europe/Berlin" in told
    shown = words(desk.says("show", "nightly"))
    assert "network.show()" in shown
    assert "At 02:30 every day (Europe/Berlin)" in shown
    assert shown.count("02:30:00 +0") >= 4  # one of them may fall into a change of the clock
    assert "user_waiting (by the routes)" in shown
    seen = desk.json("show", "nightly")
    assert (len(seen["next"]), seen["ticks"], seen["is_own"], seen["zone"]) == (5, [], True, "Europe/Berlin")
    changed = desk.json("set", "nightly", "--zone", "UTC", "--kwargs", '{"network": "blue"}', "--queue", "background")
    assert [at[11:19] for at in changed["next"]] == ["02:30:00"] * 5
    assert 'network.show(network="blue")' in words(desk.says("show", "nightly"))
    assert desk.json("set", "nightly", "--queue", "-")["after"]["queue"] is None
    assert "an operator had added it" in words(desk.says("reset", "nightly"))
    assert "nightly" not in words(desk.says("list"))
    assert words(desk.says("history", "nightly")).count("nightly") == 4


def test_a_dry_run_says_the_same_and_changes_nothing(desk: Desk) -> None:
    before = desk.facts()
    dry = desk.json("set", SWEEP, "--every", "3s", "--dry-run")
    assert "a dry run: nothing is changed" in words(desk.says(*NIGHTLY, "--dry-run"))
    assert desk.facts() == before
    wet = desk.json("set", SWEEP, "--every", "3s")
    assert dry | {"dry_run": False, "next": None} == wet | {"next": None}


def test_disabled_is_off_and_enabled_is_due_again(desk: Desk) -> None:
    off = desk.json("disable", SWEEP)
    assert (off["before"]["enabled"], off["after"]["enabled"]) == (True, False)
    assert "pool.sweep* 10s - control - off" in words(desk.says())
    assert "next times, were it enabled" in words(desk.says("show", SWEEP))
    assert "without pool.reap the pool is not kept" in words(desk.says("disable", "pool.reap"))
    assert "is so already" in words(desk.says("disable", "pool.reap"))
    on = desk.json("enable", SWEEP)
    assert (on["after"]["enabled"], len(on["next"])) == (True, 5)


def test_run_now_says_the_id_that_the_task_will_have(desk: Desk, database_url: str) -> None:
    asked = desk.json("run-now", "pool.reap")
    assert (asked["is_new"], asked["beat"]) == (True, None)
    again = words(desk.says("run-now", "pool.reap"))
    assert f"pool.reap is sent as task {asked['task_id']}" in again
    assert f"(asked for by {asked['asked_by']} already: one message serves both)" in again
    assert "no beat is active" in again
    assert f"by {asked['asked_by']}" in words(desk.says("show", "pool.reap"))
    entry = schedule.entry(desk.context.db, "pool.reap")
    assert entry.asked_at is not None
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as connection:
        epoch = beat.acquire(connection, "there", 4711, lease_s=60.0)
        assert epoch is not None
        claimed = beat.claim(connection, entry, Tick("pool.reap", entry.asked_at, entry.due_at, asked=True), epoch)
        assert claimed is not None
        assert str(claimed.task_id) == asked["task_id"]
        shown = words(desk.says("show", "pool.reap"))
        assert f"{asked['task_id']} asked for by {asked['asked_by']}" in shown
        assert "not yet sent" in shown
        beat.done(connection, claimed)
        assert "beat 4711 on there sends" in words(desk.says())
        seen = desk.json("show", "pool.reap")
        assert [one["task_id"] for one in seen["ticks"]] == [asked["task_id"]]
        assert (seen["sent"], seen["asked_at"], seen["beat"]["host"]) == (1, None, "there")
        assert desk.json("list")["entries"][0]["last_at"] is not None
        assert desk.json("show", "pool.reap", "--ticks", "0")["ticks"] == []


def test_history_says_who_when_and_what(desk: Desk) -> None:
    assert "none" in words(desk.says("history"))
    desk.json("set", SWEEP, "--every", "2s")
    desk.json(*NIGHTLY)
    rows = desk.json("history")
    assert [(row["entry"], row["before"] and row["before"]["cadence"]) for row in rows] == [
        (SWEEP, "10s"),
        ("nightly", None),
    ]
    assert all("@" in row["by"] for row in rows)
    shown = words(desk.says("history", SWEEP))
    assert "cadence 10s -> 2s" in shown
    assert rows[0]["by"] in shown.replace(" ", "")
    assert len(desk.json("history", "--limit", "1")) == 1


def test_bad_input_changes_nothing_and_says_what_is_right(desk: Desk) -> None:
    desk.json(*NIGHTLY)
    before = desk.facts()
    for name, (arguments, said) in EVIL.items():
        ended = here(desk, "schedule", *arguments)
        assert ended.returncode in {1, 2}, (name, ended)
        assert said in words(ended), (name, ended)
        assert "Traceback" not in words(ended)
        assert len(words(ended)) < 1_500, (name, ended)
    answer = json.loads(here(desk, "schedule", "set", SWEEP, "--every", "1ms", "--json").stdout)
    assert answer["kind"] == "Refused"
    assert desk.facts() == before


def test_what_cannot_be_sent_is_marked_found_and_mended(desk: Desk, db: Database) -> None:
    desk.json(*NIGHTLY)
    desk.json("set", "weekly", "--task", "network.show", "--cron", "0 3 * * mon")
    desk.json("set", "idle", "--task", "network.show", "--every", "1h")
    desk.json("disable", "idle")
    app, settings = desk.context.app, desk.context.settings
    assert faults(schedule.entries(db), app, settings) == []
    # As if another version had written them.
    said = "update schedule set overrides = overrides || %(said)s::jsonb where name = %(name)s"
    db.rows(said, name="nightly", said=json.dumps({"zone": "Mars/Olympus"}))
    db.rows(said, name="weekly", said=json.dumps({"task": "network.shows"}))
    db.rows(said, name="idle", said=json.dumps({"task": "network.shows"}))
    nightly, weekly = faults(schedule.entries(db), app, settings)
    assert "time zone 'Mars/Olympus' is unknown" in nightly
    assert "weekly: task 'network.shows' is unknown" in weekly
    assert "did you mean 'network.show'?" in weekly
    listed = words(desk.says("list"))
    assert "! nightly is not sent: " in listed
    assert "user_waiting - never" in listed
    assert "! nightly is not sent: " in words(desk.says("show", "nightly"))
    assert "zone Mars/Olympus -> UTC" in words(desk.says("set", "nightly", "--cron", "0 3 * * *", "--zone", "UTC"))
    desk.json("reset", "weekly")
    assert faults(schedule.entries(db), app, settings) == []
    found = views.words(views.summary(schedule.entries(db)))
    assert found == "5 entries; off: idle; added: idle, nightly"


def test_whoever_was_overtaken_is_told_by_whom(desk: Desk, db: Database) -> None:
    ended: list[Ended] = []
    typing = threading.Thread(target=lambda: ended.append(here(desk, "schedule", "set", SWEEP, "--every", "2s")))
    with db.connection() as other, other.transaction():
        # It has seen revision 1, and waits for this one, which makes it 2.
        other.execute("lock table schedule in share row exclusive mode")
        typing.start()
        eventually(
            lambda: db.rows("select 1 from pg_locks where relation = 'schedule'::regclass and not granted"),
            "the command waits",
            within_s=20,
        )
        other.execute(
            "update schedule set revision = 2, changed_by = 'bob@desk', changed_at = now() where name = 'pool.sweep'"
        )
    typing.join(20)
    assert ended[0].returncode == 1
    assert "entry pool.sweep was changed meanwhile by bob@desk; expected revision 1; got revision 2" in words(ended[0])
    assert schedule.entry(db, SWEEP).definition.cadence == "10s"


def test_what_is_long_is_cut_and_nothing_is_wider_than_the_screen(desk: Desk) -> None:
    name, text = "n" * 128, json.dumps(["x" * 16_000])
    cron = "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29 2-4 1-31/2 * MON-FRI"
    desk.says(
        "set", name, "--task", "pool.stop", "--cron", cron, "--args", text, "--zone", "America/Argentina/Buenos_Aires"
    )
    for command in (("list",), ("show", name), ("history",)):
        assert len(desk.says(*command).stdout) < 4_000
    assert views.changes({"args": ["x" * 500]}, {"args": []})[0].endswith("... -> []")
