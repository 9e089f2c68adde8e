"""Rounds of one beat on real engines: what another left undone, what cannot be sent, and an engine that is away."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis
from celery import Celery

from config.names import RECONCILE_TASK
from scheduler.core.schedule import Tick
from scheduler.redis.connection import connect
from scheduler.redis.queues.keys import ONCE_KEY, SENDER_KEY
from scheduler.store import beat, schedule
from scheduler.store.beat import Claimed
from scheduler.store.database import Database
from scheduler.store.session import Session
from tasks.beat import beat as rounds
from tasks.beat.beat import Beat
from tasks.beat.publisher import Publisher
from tasks.celery_app import app as real_app
from tasks.celery_app import make_app
from tests.conftest import MakeSettings
from tests.support.servers import Servers

QUEUE = "background"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds that do not sleep for long."""
    monkeypatch.setattr(beat, "RENEW_S", 0.02)
    monkeypatch.setattr(rounds, "STANDBY_S", 0.02)


@pytest.fixture
def client(servers: Servers) -> Iterator[redis.Redis]:
    servers.flush()
    with closing(connect(servers.redis_client_url)) as opened:
        yield opened


@pytest.fixture
def app(client: redis.Redis, make_settings: MakeSettings) -> Iterator[Celery]:
    """An app of the settings, as tasks/celery_app.py makes one."""
    assert client.dbsize() == 0
    real_app.loader.import_default_modules()
    made = make_app("stoker-test", make_settings(), set_as_current=False)
    made.finalize()
    yield made
    made.close()


@pytest.fixture
def publisher(app: Celery, servers: Servers) -> Iterator[Publisher]:
    with closing(Publisher(app, servers.redis_client_url)) as made:
        yield made


@pytest.fixture
def one(database_url: str, publisher: Publisher) -> Iterator[Beat]:
    made = Beat(database_url, publisher)
    yield made
    made._session.close()


def add(db: Database, name: str, task: str = "noted.task", queue: str | None = QUEUE) -> None:
    """An entry that is due."""
    schedule.set_entry(db, name, {"task": task, "cadence": "1h", "queue": queue}, by="test")
    db.rows(
        "update schedule set anchor_at = now() - interval '2 h', due_at = now() - interval '10 s' where name = %(name)s",
        name=name,
    )


def left_undone(db: Database, url: str, name: str) -> Claimed:
    """A tick that a beat claimed, which then died."""
    with closing(Session(url, "nothing", answer_s=4.0)) as session:
        epoch = session.run(lambda connection: beat.acquire(connection, "host", os.getpid()))
        assert epoch is not None
        entry = schedule.entry(db, name)
        tick = Tick(name, entry.due_at, entry.due_at.replace(year=2100))
        claimed = session.run(lambda connection: beat.claim(connection, entry, tick, epoch))
    assert claimed is not None
    return claimed


def until_done(one: Beat, db: Database, many: int) -> list[dict[str, object]]:
    """Rounds, until so many ticks are done."""
    for _ in range(200):
        assert one.round() >= 0
        done = [row for row in schedule.ticks(db) if row["done_at"] is not None]
        if len(done) >= many:
            return done
    pytest.fail(f"{many} ticks are not done after 200 rounds: {schedule.ticks(db)}")


def ids(client: redis.Redis, queue: str = QUEUE) -> list[str]:
    return [json.loads(message)["headers"]["id"] for message in client.lrange(queue, 0, -1)]


def test_what_one_had_claimed_and_not_sent_another_sends(
    db: Database, database_url: str, one: Beat, client: redis.Redis
) -> None:
    add(db, "left")
    claimed = left_undone(db, database_url, "left")
    until_done(one, db, 1)
    assert ids(client) == [claimed.task_id]
    assert client.exists(ONCE_KEY + claimed.task_id) == 0, "what SQL knows is not kept twice"


def test_what_one_had_sent_and_not_marked_is_not_sent_again(
    db: Database, database_url: str, one: Beat, publisher: Publisher, client: redis.Redis
) -> None:
    add(db, "left")
    claimed = left_undone(db, database_url, "left")
    publisher.send(claimed, 1)
    until_done(one, db, 1)
    assert ids(client) == [claimed.task_id]


def test_what_nobody_can_know_any_more_is_not_sent(
    db: Database, database_url: str, one: Beat, client: redis.Redis
) -> None:
    add(db, "left")
    left_undone(db, database_url, "left")
    db.rows("update ticks set claimed_at = now() - interval '2 days'")
    (row,) = until_done(one, db, 1)
    assert "nobody can know" in str(row["error"])
    assert ids(client) == []


def test_one_that_cannot_be_sent_is_told_and_delays_no_other(db: Database, one: Beat, client: redis.Redis) -> None:
    add(db, "bad", queue="gone")
    add(db, "good")
    rows = {str(row["entry"]): row for row in until_done(one, db, 2)}
    assert "queue 'gone' is unknown" in str(rows["bad"]["error"])
    assert rows["good"]["error"] is None
    assert ids(client) == [rows["good"]["task_id"]]


def test_a_task_that_coalesces_is_sent_once_as_well(
    db: Database, database_url: str, one: Beat, publisher: Publisher, client: redis.Redis
) -> None:
    add(db, "floor", RECONCILE_TASK, queue=None)
    claimed = left_undone(db, database_url, "floor")
    publisher.send(claimed, 1)
    until_done(one, db, 1)
    assert ids(client, "control") == [claimed.task_id]


def test_a_database_of_before_is_above_what_redis_has_seen(db: Database, one: Beat, client: redis.Redis) -> None:
    add(db, "late")
    client.set(SENDER_KEY, 100)
    until_done(one, db, 1)
    holder = beat.active_beat(db)
    assert holder is not None
    assert (holder.epoch, len(ids(client))) == (101, 1)


def test_while_redis_is_away_no_more_is_claimed_and_then_each_is_sent_once(
    db: Database, database_url: str, app: Celery, one: Beat, client: redis.Redis
) -> None:
    add(db, "first")
    add(db, "second")
    alone = Beat(database_url, Publisher(app, "unix:///nonexistent/redis.sock"))
    waits_s = [alone.round() for _ in range(8)]
    assert all(wait_s > 0 for wait_s in waits_s)
    assert max(waits_s) <= 0.2, "not for longer than a lease may go without being renewed"
    assert [row["done_at"] for row in schedule.ticks(db)] == [None]
    assert beat.active_beat(db) is not None, "it lives, and renews its lease"
    alone._session.close()
    sent = until_done(one, db, 2)
    assert sorted(ids(client)) == sorted(str(row["task_id"]) for row in sent)


def test_one_that_alone_is_cut_off_from_redis_lets_another_send(
    db: Database,
    database_url: str,
    app: Celery,
    one: Beat,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounds, "GIVE_UP_S", 0.0)
    add(db, "first")
    cut_off = Beat(database_url, Publisher(app, "unix:///nonexistent/redis.sock"))
    cut_off.round()
    assert beat.active_beat(db) is not None
    cut_off.round()
    (sent,) = until_done(one, db, 1)
    assert cut_off.round() == 0.0, "it stands by"
    assert ids(client) == [sent["task_id"]]
    cut_off._session.close()
