"""The pool's figures are those of the record: by family, each spawn counted once, whoever spawned and whenever it is read."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta

import redis
from prometheus_client import CollectorRegistry

from config.settings import Settings
from scheduler.store import launches, reaping
from scheduler.store.database import Database
from tasks.exporter.looks import Looks
from tasks.exporter.spawns import Spawns
from tests.support.fleet import Fleet
from tests.support.servers import Servers

SECOND = timedelta(seconds=1)


def test_the_pool_is_told_by_family_and_state(servers: Servers, settings: Settings, db: Database, fleet: Fleet) -> None:
    fleet.idle(2)
    fleet.idle(3, node="leaving")
    reaping.cordon(db, "leaving", cordoned=True)
    fleet.launched(1)
    registry = CollectorRegistry()
    with closing(redis.Redis.from_url(servers.redis_client_url, decode_responses=True)) as client:
        registry.register(Looks(client, db, settings.all_queues, lambda: True))
        value = {(s.name, *s.labels.values()): s.value for family in registry.collect() for s in family.samples}
    states = ("idle", "cordoned", "spawning", "active")
    assert [value["stoker_workers", "echo", state] for state in states] == [2, 3, 1, 0]
    assert (value["stoker_floor", "echo"], value["stoker_demand_tickets", "echo"]) == (2, 0)


def test_each_spawn_is_counted_once_however_often_it_is_read(db: Database, fleet: Fleet) -> None:
    registry = CollectorRegistry()
    spawns = Spawns(registry)

    def counted() -> list[float | None]:
        spawns.read(db)
        return [
            registry.get_sample_value("stoker_spawn_seconds_count", {"outcome": outcome})
            for outcome in ("ready", "failed")
        ]

    fleet.idle(1)
    assert counted() == [0, 0], "what was before this process is no spawn of its time"
    fleet.idle(2)
    failed = fleet.launched(1)[0]
    launches.failed(db, failed, "never answered", gone=True, first=SECOND, longest=SECOND)
    assert counted() == [2, 1]
    assert counted() == [2, 1]
    fleet.idle(1)
    db.rows("update events set at = at - interval '1 hour' returning id")
    assert counted() == [3, 1]
    assert counted() == [3, 1], "nor when it is settled"
