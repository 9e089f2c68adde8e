"""A scrape is always answered, with what the engines say and who of them is away; starts are counted again after any break."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from config.settings import Settings
from scheduler.errors import Refused
from scheduler.redis.queues.keys import COUNTS_KEY
from scheduler.store import queues as store
from scheduler.store.database import Database
from tasks.celery_app import make_app
from tasks.exporter import Exporter
from tasks.exporter.looks import Looks
from tasks.exporter.waits import Waits
from tasks.starts import EVENT
from tests.conftest import MakeSettings
from tests.support.coalescing_lab import valkey
from tests.support.eventually import eventually
from tests.support.servers import Servers

WITHIN_S = 20.0
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
START = {"name": "step.mesh", "queue": "background", "wait_s": 2.0, "lane_wait_s": 0.5, "defers": 2, "folded": 3}


def series(text: str) -> Series:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(found: Series, name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


def scrape(url: str) -> Series:
    with urllib.request.urlopen(f"{url}/metrics", timeout=WITHIN_S) as answer:  # noqa: S310 - our own
        return series(answer.read().decode())


@contextmanager
def exporting(settings: Settings) -> Iterator[str]:
    app = make_app("stoker-exporter", settings, set_as_current=False, include=["tasks.pool_tasks"])
    with app, Exporter(app, settings, 0) as exporter:
        yield exporter.url


@pytest.fixture
def counted() -> tuple[Waits, Callable[[], Series]]:
    registry = CollectorRegistry()
    waits = Waits(registry, ["step.mesh"], ["background"])
    return waits, lambda: series(generate_latest(registry).decode())


def test_a_start_is_counted_by_task_and_queue(counted: tuple[Waits, Callable[[], Series]]) -> None:
    waits, read = counted
    waits.hear(START)
    waits.hear({**START, "wait_s": 1.0, "lane_wait_s": 0.0, "defers": 0, "folded": 0})
    found, labels = read(), {"task": "step.mesh", "queue": "background"}
    assert [of(found, f"stoker_task_{what}_total", **labels) for what in ("starts", "folds", "defers")] == [2, 3, 2]
    assert of(found, "stoker_queue_wait_seconds_sum", queue="background") == 3.0
    assert of(found, "stoker_queue_wait_seconds_bucket", queue="background", le="1.0") == 1, (
        "an edge is a queue's bound"
    )
    assert of(found, "stoker_task_lane_wait_seconds_count", queue="background") == 1, "one of them waited for its lane"
    assert not [name for name, _ in found if name.endswith("_created")]


def test_a_wait_that_nobody_knows_is_no_wait_of_0(counted: tuple[Waits, Callable[[], Series]]) -> None:
    waits, read = counted
    waits.hear({**START, "wait_s": None})
    assert of(read(), "stoker_queue_wait_seconds_count", queue="background") is None
    assert of(read(), "stoker_task_starts_total", task="step.mesh", queue="background") == 1


@pytest.mark.parametrize(
    "event",
    [
        {},
        {**START, "folded": "many"},
        {**START, "defers": -1},
        {**START, "wait_s": []},
        {**START, "wait_s": float("nan")},
    ],
    ids=str,
)
def test_an_event_that_is_none_of_ours_is_passed_over(
    counted: tuple[Waits, Callable[[], Series]], event: dict[str, Any]
) -> None:
    waits, read = counted
    waits.hear(event)
    assert not [value for value in read().values() if value]


def test_whatever_names_events_have_there_is_one_more_series(counted: tuple[Waits, Callable[[], Series]]) -> None:
    waits, read = counted
    for number in range(100):
        waits.hear({**START, "name": f"made up {number}", "queue": f"nowhere{number}"})
    assert of(read(), "stoker_task_starts_total", task="other", queue="other") == 100


def test_queues_are_told_as_they_are_with_what_holds_for_them(
    servers: Servers, settings: Settings, db: Database
) -> None:
    with closing(redis.Redis.from_url(servers.redis_client_url, decode_responses=True)) as client:
        client.flushdb()
        now_ms = int(client.time()[0]) * 1000
        client.lpush("background", f'{{"stoker-at": {now_ms - 7_000}, "body": ""}}', '{"body": ""}')
        client.lpush("spawn", '{"body": ""}')
        client.hset(COUNTS_KEY, mapping={"background taken": 9, "background late": 4, "background reserved": 2})
        store.set_policy(db, "background", bound_s=9.0, reserve=0.2, by="somebody")
        registry = CollectorRegistry()
        registry.register(Looks(client, db, settings.all_queues, lambda: True))
        found = series(generate_latest(registry).decode())
    assert of(found, "stoker_queue_depth", queue="background") == 2
    assert 6 <= (of(found, "stoker_queue_oldest_seconds", queue="background") or 0) < 30
    counters = [
        of(found, f"stoker_{what}_total", queue="background")
        for what in ("queue_taken", "staleness_violations", "queue_reserved")
    ]
    assert counters == [9, 4, 2]
    for queue in ("background", "background@node1"):
        assert of(found, "stoker_queue_bound_seconds", queue=queue) == 9.0
        assert of(found, "stoker_queue_reserve", queue=queue) == 0.2
    assert of(found, "stoker_queue_oldest_seconds", queue="spawn") is None, "no stamp: nobody knows"
    assert of(found, "stoker_queue_oldest_seconds", queue="control") == 0.0
    up = [of(found, "stoker_up", engine=engine) for engine in ("redis", "postgresql")]
    assert (up, of(found, "stoker_events_listening")) == ([1, 1], 1)
    assert {queue for name, labels in found if name == "stoker_queue_depth" for _, queue in labels} == set(
        settings.all_queues
    )


def test_without_its_engines_it_starts_answers_and_says_so(make_settings: MakeSettings) -> None:
    away = make_settings().model_copy(
        update={"redis_url": "redis://127.0.0.1:1/0", "database_url": "postgresql://x@127.0.0.1:1/x"}
    )
    with exporting(away) as url:
        found = scrape(url)
        assert [of(found, "stoker_up", engine=engine) for engine in ("redis", "postgresql")] == [0, 0]
        assert of(found, "stoker_events_listening") == 0
        assert not [name for name, _ in found if name.startswith("stoker_queue")]
        with urllib.request.urlopen(f"{url}/healthz", timeout=WITHIN_S) as answer:  # noqa: S310 - our own
            assert (answer.status, answer.read()) == (200, b"ok\n")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}/", timeout=WITHIN_S)  # noqa: S310 - our own


def test_a_database_that_hangs_keeps_no_scrape(servers: Servers, settings: Settings, db: Database) -> None:
    with (
        pytest.MonkeyPatch.context() as patch,
        closing(redis.Redis.from_url(servers.redis_client_url, decode_responses=True)) as client,
        closing(Database(db.dsn, connections=1)) as holder,
        holder.connection() as held,
        held.transaction(),
    ):
        patch.setattr("tasks.exporter.looks.ANSWER_S", 2.0)
        held.execute("lock table queues in access exclusive mode")
        looks = Looks(client, db, settings.all_queues, lambda: True)
        for _ in range(2):  # the second finds the first one's question still asked
            found = {(s.name, *s.labels.values()): s.value for family in looks.collect() for s in family.samples}
            assert (found["stoker_up", "redis"], found["stoker_up", "postgresql"]) == (1, 0)
    asking = looks._asking
    assert asking is not None
    asking.join(WITHIN_S)
    assert any(family.name == "stoker_queue_reserve" for family in looks.collect()), "it is back"


def test_starts_are_heard_again_when_the_broker_is_back(make_settings: MakeSettings, tmp_path: Path) -> None:
    with valkey(tmp_path / "state") as server:
        own = {"redis_url": server.locations.redis_url, "state_dir": tmp_path / "state"}
        settings = make_settings().model_copy(update=own)

        def heard(at_least: float) -> Callable[[], bool]:
            def look() -> bool:
                # The subscription is a moment younger than the gauge: tell it again until it is heard.
                with app.connection_for_write() as connection:
                    app.events.Dispatcher(connection).send(EVENT, uuid="x", **{**START, "name": "pool.claim"})
                found = scrape(url)
                counted = of(found, "stoker_task_starts_total", task="pool.claim", queue="background") or 0
                return of(found, "stoker_events_listening") == 1 and counted >= at_least

            return look

        with make_app("stoker-teller", settings, set_as_current=False) as app, exporting(settings) as url:
            eventually(heard(1), "a start is counted", within_s=WITHIN_S)
            before = of(scrape(url), "stoker_task_starts_total", task="pool.claim", queue="background") or 0
            server.stop()
            eventually(lambda: of(scrape(url), "stoker_events_listening") == 0, "nobody listens", within_s=WITHIN_S)
            assert of(scrape(url), "stoker_up", engine="redis") == 0
            server.start()
            eventually(heard(before + 1), "a start is counted again", within_s=WITHIN_S)


def test_a_port_that_cannot_be_had_is_refused_with_the_remedy(settings: Settings) -> None:
    with make_app("stoker-exporter", settings, set_as_current=False) as app:
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(Refused, match="choose another by --port"):
            Exporter(app, settings, taken.getsockname()[1])
        with pytest.raises(Refused, match="from 1 to 65535"):
            Exporter(app, settings, 65_536)


def test_the_command_serves_until_it_is_told_to_stop(servers: Servers, database_url: str) -> None:
    environment = {**os.environ, "STOKER_DATABASE_URL": database_url, "STOKER_STATE_DIR": str(servers.state_dir)}
    command = [sys.executable, "-c", "from tasks.cli import main; main()", "exporter", "--port"]
    with subprocess.Popen([*command, "0"], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1].removesuffix("/metrics")
        try:
            eventually(lambda: of(scrape(url), "stoker_up", engine="postgresql") == 1, "it answers", within_s=WITHIN_S)
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
