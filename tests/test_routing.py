"""Where messages go, on a real broker: each task and beat entry to the queue that the settings name, and to no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from celery import Celery
from celery.beat import Scheduler, SchedulingError
from kombu import Exchange, Queue

from config.names import DEFAULT_ROUTES, OTHER_TASKS, RECONCILE_TASK, SPAWN_TASK, TICK_TASKS
from config.schedule import Schedule
from config.settings import Settings
from scheduler.errors import Refused
from scheduler.redis.connection import connect
from scheduler.redis.queues.once import Said
from scheduler.store.beat import Claimed
from tasks.beat.publisher import Publisher
from tasks.celery_app import app as real_app
from tasks.celery_app import make_app
from tests.conftest import MakeSettings
from tests.support.servers import Servers

WAYS: dict[str, Callable[[Celery, str], Any]] = {
    "send_task": lambda app, queue: app.send_task("reports.daily", queue=queue),
    "send_task of a task of ours": lambda app, queue: app.send_task(SPAWN_TASK, (1, 1), queue=queue),
    "apply_async": lambda app, queue: app.tasks[SPAWN_TASK].apply_async((1, 1), queue=queue),
    "apply_async of a task that folds": lambda app, queue: app.tasks[RECONCILE_TASK].apply_async(("p",), queue=queue),
    "a signature": lambda app, queue: app.signature(SPAWN_TASK, (1, 1)).set(queue=queue).apply_async(),
    "a queue as an object": lambda app, queue: app.send_task(
        SPAWN_TASK, (1, 1), queue=Queue(queue, Exchange(queue), queue)
    ),
    "a routing key": lambda app, queue: app.send_task(SPAWN_TASK, (1, 1), exchange="spawn", routing_key=queue),
    "an exchange": lambda app, queue: app.send_task(SPAWN_TASK, (1, 1), exchange=queue, routing_key="spawn"),
    "a beat entry": lambda app, queue: Scheduler(app, lazy=True).apply_async(
        Scheduler(app, lazy=True).Entry(
            "mine", SPAWN_TASK, schedule=1.0, args=(1, 1), options={"queue": queue}, app=app
        ),
        advance=False,
    ),
}


@pytest.fixture
def app(servers: Servers, make_settings: MakeSettings) -> Iterator[Celery]:
    """An app of the settings, as tasks/celery_app.py makes one."""
    servers.flush()
    real_app.loader.import_default_modules()
    made = make_app("stoker-test", make_settings(routes={"pool.stop": "user_facing"}), set_as_current=False)
    made.finalize()
    yield made
    made.close()


@pytest.fixture
def client(servers: Servers) -> Iterator[redis.Redis]:
    with closing(connect(servers.redis_client_url)) as opened:
        yield opened


def filled(app: Celery, client: redis.Redis) -> dict[str, int]:
    """The queues in which something waits."""
    return {queue: depth for queue in app.amqp.queues if (depth := client.llen(queue))}


def drained(app: Celery, client: redis.Redis) -> str:
    """The one queue in which one message waits, which is taken out of it."""
    ((queue, depth),) = filled(app, client).items()
    assert depth == 1
    client.delete(queue)
    return queue


def test_every_task_of_the_app_lands_where_the_settings_say(app: Celery, client: redis.Redis) -> None:
    routes = {**DEFAULT_ROUTES, "pool.stop": "user_facing"}
    # Those with a route, the steps of operations (which are sent to a queue by name), and Celery's own.
    names = {*real_app.tasks, *DEFAULT_ROUTES} - {OTHER_TASKS}
    assert len(names) > len(DEFAULT_ROUTES)
    for name in sorted(names):
        app.send_task(name)
        assert drained(app, client) == routes.get(name, routes[OTHER_TASKS]), name


def test_every_beat_entry_lands_where_the_settings_say(app: Celery, client: redis.Redis, servers: Servers) -> None:
    publisher = Publisher(app, servers.redis_client_url)
    entries = Schedule().everything
    assert set(entries) == set(TICK_TASKS)
    for name, entry in entries.items():
        now = datetime.now(UTC)
        tick = Claimed(1, name, now, name, entry.task, [], {}, entry.queue, entry.expires_s, now)
        assert publisher.send(tick, 1).said is Said.PUT
        assert drained(app, client) == DEFAULT_ROUTES[name]
    publisher.close()


@pytest.mark.parametrize("queue", ["user_waiting", "background@node1"])
def test_who_names_a_queue_that_there_is_has_it(app: Celery, client: redis.Redis, queue: str) -> None:
    for way, send in WAYS.items():
        # An exchange is that of its one queue: the key decides.
        wanted = "spawn" if way == "an exchange" else queue
        send(app, queue)
        assert drained(app, client) == wanted, way


@pytest.mark.parametrize("way", WAYS)
def test_a_queue_that_there_is_not_is_refused_and_nothing_is_published(
    app: Celery, client: redis.Redis, way: str
) -> None:
    before = set(client.keys())
    with pytest.raises((Refused, SchedulingError), match=r"queue 'spwan' is unknown.*did you mean 'spawn'\?"):
        WAYS[way](app, "spwan")
    assert set(client.keys()) == before


def test_who_would_follow_a_run_is_refused_as_well(app: Celery) -> None:
    app.tasks[RECONCILE_TASK].apply_async(("p",))
    with pytest.raises(Refused, match=r"queue 'spwan' is unknown"):
        app.tasks[RECONCILE_TASK].apply_async(("p",), queue="spwan")


def test_without_a_near_one_the_refusal_says_what_to_do(app: Celery) -> None:
    with pytest.raises(
        Refused, match=r"expected one of control, .*background@node1; name one of these, or add a table"
    ):
        app.send_task(SPAWN_TASK, (1, 1), queue="zzz")


def test_a_worker_is_not_started_on_a_queue_that_there_is_not(app: Celery) -> None:
    with pytest.raises(Refused, match=r"did you mean 'spawn'\?"):
        app.amqp.queues.select(["control", "spwan"])
    app.amqp.queues.select(["control", "spawn"])
    assert set(app.amqp.queues.consume_from) == {"control", "spawn"}


def test_a_retry_goes_back_to_where_it_came_from(app: Celery, client: redis.Redis) -> None:
    task = app.tasks[SPAWN_TASK]
    for info in (
        {"exchange": "", "routing_key": "background@node1"},
        {"exchange": "background", "routing_key": "background"},
    ):
        task.push_request(id="t", args=(1, 1), kwargs={}, delivery_info=info)
        try:
            task.signature_from_request().apply_async()
        finally:
            task.pop_request()
        assert drained(app, client) == info["routing_key"]


def test_the_app_itself_refuses() -> None:
    with pytest.raises(Refused, match="did you mean 'control'"):
        real_app.amqp.router.route({"queue": "contrl"}, "pool.reap")
    route = real_app.amqp.router.route({}, "pool.reap")
    assert route["queue"].name == Settings.model_fields["routes"].get_default(call_default_factory=True)["pool.reap"]
