"""Bounds and reserves in SQL and their copy in Redis: changed by whom and from what, never too much, never overtaken."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from threading import Barrier
from types import SimpleNamespace

import psycopg
import pytest
import redis

from config.settings import Settings
from scheduler.errors import Refused
from scheduler.redis.connection import connect
from scheduler.redis.queues import counts, policy
from scheduler.redis.queues.keys import COUNTS_KEY, POLICY_KEY, counter
from scheduler.store import queues
from scheduler.store.database import Database
from scheduler.store.sync import apply_settings
from tasks import sweep
from tests.conftest import MakeContext, MakeSettings
from tests.support.commands import here, words
from tests.support.servers import Servers

BY = "alice@desk"


@pytest.fixture
def client(servers: Servers) -> Iterator[redis.Redis]:
    servers.flush()
    with closing(connect(servers.redis_client_url)) as opened:
        yield opened


def in_force(db: Database) -> dict[str, tuple[float, float]]:
    return {one.name: (one.bound_s, one.reserve) for one in queues.policies(db)}


def rows(db: Database) -> list[dict[str, object]]:
    return db.rows("select to_jsonb(q) as row from queues q order by rank")


def test_the_settings_are_the_classes_of_the_database(db: Database, settings: Settings) -> None:
    assert in_force(db) == {name: (one.bound_s, one.reserve) for name, one in settings.queues.items()}
    assert [one.name for one in queues.policies(db)] == list(settings.classes)
    assert queues.history(db) == []


def test_a_change_is_kept_told_and_taken_back(db: Database, settings: Settings) -> None:
    change = queues.set_policy(db, "background", bound_s=10.0, by=BY)
    assert (change.before.in_force(), change.after.in_force()) == (
        {"bound_s": 30.0, "reserve": 0.1},
        {"bound_s": 10.0, "reserve": 0.1},
    )
    assert (change.after.changed_by, change.after.changed_at is None) == (BY, False)
    assert queues.set_policy(db, "background", reserve=0.2, by=BY).after.in_force() == {"bound_s": 10.0, "reserve": 0.2}
    apply_settings(db, settings)
    assert in_force(db)["background"] == (10.0, 0.2)
    back = queues.reset_policy(db, "background", by="bob@desk")
    assert back.after.in_force() == {"bound_s": 30.0, "reserve": 0.1}
    assert not back.after.is_overridden
    assert [(row["queue"], row["by"], row["after"]) for row in queues.history(db, "background")] == [
        ("background", "bob@desk", {"bound_s": 30.0, "reserve": 0.1}),
        ("background", BY, {"bound_s": 10.0, "reserve": 0.2}),
        ("background", BY, {"bound_s": 10.0, "reserve": 0.1}),
    ]
    assert queues.history(db, "spawn") == []


def test_what_is_so_already_is_no_change(db: Database, settings: Settings) -> None:
    assert settings.queues["spawn"].bound_s == 5.0
    queues.set_policy(db, "spawn", bound_s=7.0, by=BY)
    before = rows(db)
    for change in (
        queues.set_policy(db, "spawn", bound_s=7.0, by="bob@desk"),
        queues.reset_policy(db, "control", by="bob@desk"),
    ):
        assert change.before == change.after
    assert rows(db) == before
    assert len(queues.history(db)) == 1


@pytest.mark.parametrize(
    ("name", "bound_s", "reserve", "said"),
    [
        ("spwan", 1.0, None, "did you mean 'spawn'?"),
        ("background@node1", 1.0, None, "did you mean 'background'?"),
        ("zzz", 1.0, None, "expected one of control, user_waiting"),
        ("spawn", None, None, "nothing to set"),
        ("spawn", 0.0, None, "bound out of range"),
        ("spawn", float("nan"), None, "bound out of range"),
        ("spawn", float("inf"), None, "bound out of range"),
        ("spawn", None, 1.0, "reserve out of range"),
        ("spawn", None, -0.1, "reserve out of range"),
        ("spawn", None, float("nan"), "reserve out of range"),
        ("spawn", 9.0, 0.65, "0.25 (user_facing) + 0.65 (spawn) + 0.1 (background) = 1"),
    ],
)
@pytest.mark.usefixtures("settings")
def test_what_cannot_be_changes_nothing(
    db: Database, name: str, bound_s: float | None, reserve: float | None, said: str
) -> None:
    before = rows(db)
    with pytest.raises(Refused) as refused:
        queues.set_policy(db, name, bound_s=bound_s, reserve=reserve, by=BY)
    assert said in str(refused.value)
    assert rows(db) == before
    assert queues.history(db) == []


@pytest.mark.usefixtures("settings")
def test_who_saw_something_else_is_refused(db: Database) -> None:
    seen = queues.policy(db, "spawn")
    queues.set_policy(db, "spawn", bound_s=7.0, by=BY, expected=seen)
    for late in (
        lambda: queues.set_policy(db, "spawn", bound_s=8.0, by="bob@desk", expected=seen),
        lambda: queues.reset_policy(db, "spawn", by="bob@desk", expected=seen),
    ):
        with pytest.raises(Refused, match=r"changed meanwhile by alice@desk.*bound 5 s.*bound 7 s.*look at it again"):
            late()
    assert in_force(db)["spawn"] == (7.0, 0.25)


@pytest.mark.usefixtures("settings")
def test_of_many_who_raise_their_reserve_at_once_only_as_many_may_as_fit(db: Database) -> None:
    names = [one.name for one in queues.policies(db)]
    gate = Barrier(len(names))

    def raise_own(name: str) -> bool:
        gate.wait(10)
        try:
            queues.set_policy(db, name, reserve=0.3, by=BY)
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(len(names)) as threads:
        raised = list(threads.map(raise_own, names))
    assert sum(reserve for _, reserve in in_force(db).values()) < 1
    assert len(queues.history(db)) == sum(raised) >= 2


@pytest.mark.usefixtures("settings")
def test_sql_itself_refuses_two_that_raise_what_only_one_may(db: Database) -> None:
    gate = Barrier(2)

    def raise_own(name: str) -> bool:
        with db.connection() as connection, connection.transaction():
            connection.execute("select 1")
            gate.wait(10)
            try:
                with connection.transaction():
                    connection.execute("update queues set override_reserve = 0.5 where name = %s", [name])
            except psycopg.IntegrityError:
                return False
        return True

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(raise_own, ("spawn", "user_facing"))) == [False, True]


def test_new_settings_are_told_and_what_was_changed_by_hand_stays(
    db: Database, settings: Settings, make_settings: MakeSettings
) -> None:
    assert "reports" not in settings.queues
    own = {"rank": 2, "bound_s": 60.0, "reserve": 0.05, "worker": "spawn"}
    queues.set_policy(db, "background", bound_s=10.0, by=BY)
    # Two trade their ranks with a third that is new.
    changed = make_settings(
        queues={
            "user_facing": {"rank": 3},
            "spawn": {"rank": 5, "bound_s": 6.0},
            "reports": own,
            "background": {"reserve": 0.2},
        }
    )
    apply_settings(db, changed)
    assert [one.name for one in queues.policies(db)] == list(changed.classes)
    assert (in_force(db)["background"], in_force(db)["spawn"]) == ((10.0, 0.2), (6.0, 0.25))
    once = rows(db)
    apply_settings(db, changed)
    assert rows(db) == once
    told = {(row["queue"], row["kind"]) for row in queues.history(db) if row["by"] == "settings"}
    assert told == {("spawn", "queue.changed"), ("background", "queue.changed")}
    apply_settings(db, make_settings())
    assert "reports" not in in_force(db)
    assert [row["after"] for row in queues.history(db, "reports")] == [None]


def test_settings_that_are_too_much_beside_what_was_changed_by_hand_are_refused(
    db: Database, settings: Settings, make_settings: MakeSettings
) -> None:
    assert settings.queues["spawn"].reserve == 0.25
    queues.set_policy(db, "spawn", reserve=0.6, by=BY)
    before = rows(db)
    with pytest.raises(Refused, match=r"0\.6 \(spawn\).*stoker queues reset"):
        apply_settings(db, make_settings(queues={"background": {"reserve": 0.2}}))
    assert rows(db) == before


@pytest.mark.usefixtures("settings")
def test_redis_has_a_copy_of_what_was_changed_alone(db: Database, client: redis.Redis) -> None:
    assert policy.publish(db, client) is False
    queues.set_policy(db, "background", bound_s=0.25, by=BY)
    queues.set_policy(db, "spawn", reserve=0.2, by=BY)
    assert policy.publish(db, client) is True
    assert policy.read(client) == {"background": "250 0.1", "spawn": "5000 0.2"}
    assert policy.publish(db, client) is False
    queues.reset_policy(db, "background", by=BY)
    assert policy.publish(db, client) is True
    assert policy.read(client) == {"spawn": "5000 0.2"}


@pytest.mark.usefixtures("settings")
def test_a_copy_is_never_older_than_a_change_that_was_told(db: Database, client: redis.Redis) -> None:
    def change(bound_s: int) -> None:
        queues.set_policy(db, "background", bound_s=float(bound_s), by=BY)
        policy.publish(db, client)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(change, range(1, 41)))
    assert policy.read(client) == policy.texts(queues.policies(db))


def test_the_sweep_writes_the_copy_again(make_context: MakeContext, settings: Settings, client: redis.Redis) -> None:
    context = make_context(settings)
    queues.set_policy(context.db, "background", bound_s=10.0, by=BY)
    client.hset(POLICY_KEY, "gone", "1 0.9")
    assert sweep.run(context)["queue_policies"] == 1
    assert policy.read(client) == {"background": "10000 0.1"}
    assert sweep.run(context)["queue_policies"] == 0
    client.flushdb()
    assert sweep.run(context)["queue_policies"] == 1
    assert policy.read(client) == {"background": "10000 0.1"}


def test_a_change_that_redis_did_not_hear_holds_in_sql_and_says_so(
    db: Database, make_context: MakeContext, settings: Settings
) -> None:
    unreachable = SimpleNamespace(
        context=make_context(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    )
    said = words(here(unreachable, "queues", "set", "background", "--bound", "10s"))
    assert (
        "background: 30.00 s, 10 % -> 10.00 s, 10 % Redis did not answer: workers hear of it with the next sweep"
        in said
    )
    assert in_force(db)["background"] == (10.0, 0.1)
    looked = here(unreachable, "queues")
    assert (looked.returncode, "Redis did not answer" in looked.stderr) == (1, True)


def test_a_sample_has_depths_ages_and_counts(client: redis.Redis) -> None:
    seconds, _ = client.time()
    client.lpush("a", f'{{"stoker-at": {seconds * 1000 - 5000}, "body": 1}}', '{"stoker-at": 1, "body": 2}')
    client.lpush("b", '{"body": "no stamp"}')
    client.hset(COUNTS_KEY, mapping={counter("a", "taken"): 7, counter("a", "late"): 2, counter("b", "reserved"): 3})
    seen = counts.sample(client, ("a", "b", "c"))
    assert 5 <= seen.queues["a"].oldest_s < 60
    assert [replace(one, oldest_s=None) for one in seen.queues.values()] == [
        counts.QueueCounts(2, None, 7, 2, 0),
        counts.QueueCounts(1, None, 0, 0, 3),
        counts.QueueCounts(),
    ]
    assert (seen.queues["b"].oldest_s, seen.queues["c"].oldest_s) == (None, None)


@pytest.mark.parametrize(
    ("message", "age_s"),
    [
        (None, None),
        ("", None),
        ('{"stoker-at": 99000, "body": ""}', 1.0),
        ('{"stoker-at":99000,"body":""}', 1.0),
        ('{"stoker-at": 200000, "body": ""}', 0.0),
        ('{"body": "", "stoker-at": 99000}', None),
        ('{"stoker-at": "99000"}', None),
        ('{"stoker-at": -1}', None),
        ("no JSON", None),
    ],
)
def test_the_age_of_a_message_is_that_of_its_stamp(message: str | None, age_s: float | None) -> None:
    assert counts.age_s(message, 100.0) == age_s
