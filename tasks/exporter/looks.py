"""Queues, pool and operations as they are when Prometheus asks: of queues what Redis counts, of all else what SQL says."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import redis
import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from config.names import class_of
from scheduler.core.operations import ENDED, OperationState
from scheduler.errors import Temporary
from scheduler.redis.queues import counts
from scheduler.store import figures, status
from scheduler.store import queues as store
from tasks.exporter import schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client import Metric

    from scheduler.redis.queues.counts import Sample
    from scheduler.store.database import Database, Row
    from scheduler.store.queues import Policy
    from tasks.exporter.counted import Counted
    from tasks.exporter.spawns import Spawns

log = structlog.get_logger(__name__)

_QUEUE: Final = ["queue"]
# For an engine that is away: both in turn, and a scrape must have its answer before Prometheus gives it up after ten seconds.
ANSWER_S: Final = 2.0
_STATES: Final = ("spawning", "idle", "cordoned", "activating", "active", "hot_idle")


@dataclass(frozen=True, slots=True)
class Found:
    """What SQL said."""

    policies: list[Policy]
    pool: list[Row]
    operations: dict[str, int]
    counted: list[Metric]


class Looks(Collector):
    """Looks at both engines once a scrape. What is not known because one is away is left out, and `stoker_up` says so."""

    def __init__(
        self,
        client: redis.Redis,
        db: Database,
        queues: Sequence[str],
        listens: Callable[[], bool],
        spawns: Spawns | None = None,
        counted: Counted | None = None,
    ) -> None:
        self._client, self._db, self._queues, self._listens = client, db, queues, listens
        self._spawns, self._counted = spawns, counted
        self._one_at_once = threading.Lock()
        self._asking: threading.Thread | None = None
        self._found: Found | None = None

    def describe(self) -> Iterator[Metric]:
        """Nothing: else the registry would look at the engines when it is made."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Called by the registry for each scrape."""
        with self._one_at_once:
            sample, found = self._sample(), self._ask_sql()
        up = GaugeMetricFamily("stoker_up", "Whether the engine answered this scrape.", labels=["engine"])
        up.add_metric(["redis"], float(sample is not None))
        up.add_metric(["postgresql"], float(found is not None))
        yield up
        listening = "Whether starts are heard: those of while it is 0 are counted by nobody."
        yield GaugeMetricFamily("stoker_events_listening", listening, value=float(self._listens()))
        if sample is not None:
            yield from self._of_redis(sample)
        if found is not None:
            yield from self._of_sql({policy.name: policy for policy in found.policies})
            yield from _of_pool(found.pool)
            operations = GaugeMetricFamily("stoker_operations", "Operations that have not ended.", labels=["state"])
            for state in sorted(set(OperationState) - ENDED):
                operations.add_metric([state], found.operations.get(state, 0))
            yield operations
            yield from found.counted

    def _of_redis(self, sample: Sample) -> Iterator[Metric]:
        depth = GaugeMetricFamily("stoker_queue_depth", "Messages that wait.", labels=_QUEUE)
        oldest = GaugeMetricFamily("stoker_queue_oldest_seconds", "For how long the first has.", labels=_QUEUE)
        taken = CounterMetricFamily("stoker_queue_taken", "Messages that workers took.", labels=_QUEUE)
        late = CounterMetricFamily("stoker_staleness_violations", "Of those, past their bound.", labels=_QUEUE)
        reserved = CounterMetricFamily("stoker_queue_reserved", "Of those, before better work.", labels=_QUEUE)
        for queue, seen in sample.queues.items():
            depth.add_metric([queue], seen.depth)
            if seen.oldest_s is not None or not seen.depth:
                oldest.add_metric([queue], seen.oldest_s or 0.0)
            taken.add_metric([queue], seen.taken)
            late.add_metric([queue], seen.late)
            reserved.add_metric([queue], seen.reserved)
        yield from (depth, oldest, taken, late, reserved)

    def _of_sql(self, policies: dict[str, Policy]) -> Iterator[Metric]:
        """A node's queue has its class's, so that what is compared with them has the same labels."""
        bound = GaugeMetricFamily("stoker_queue_bound_seconds", "How long one may wait.", labels=_QUEUE)
        reserve = GaugeMetricFamily("stoker_queue_reserve", "Its class's share of dequeues then.", labels=_QUEUE)
        for queue in self._queues:
            policy = policies.get(class_of(queue))
            if policy is not None:  # not yet there: a queue of settings that were not migrated
                bound.add_metric([queue], policy.bound_s)
                reserve.add_metric([queue], policy.reserve)
        yield from (bound, reserve)

    def _sample(self) -> Sample | None:
        try:
            return counts.sample(self._client, self._queues)
        except redis.RedisError as error:
            log.warning("Redis did not answer a scrape", error=str(error))
            return None

    def _ask_sql(self) -> Found | None:
        """A server that hangs keeps a question for ever: so another thread asks, and no second while that one waits."""
        if self._asking is None or not self._asking.is_alive():
            self._found = None
            self._asking = threading.Thread(target=self._ask, name="stoker-look", daemon=True)
            self._asking.start()
        self._asking.join(ANSWER_S)
        return None if self._asking.is_alive() else self._found

    def _ask(self) -> None:
        try:
            counted = [*schedule.read(self._db), *(self._counted.read(self._db) if self._counted else ())]
            found = Found(store.policies(self._db), status.pool(self._db), figures.operations(self._db), counted)
            if self._spawns is not None:
                self._spawns.read(self._db)
            self._found = found
        except Temporary as error:
            log.warning("PostgreSQL did not answer a scrape", error=str(error))


def _of_pool(pool: list[Row]) -> Iterator[Metric]:
    """By family: a profile that was changed has rows of old and new, and both are of one name to who looks."""
    floor = GaugeMetricFamily("stoker_floor", "Workers to be kept idle.", labels=["profile"])
    demand = GaugeMetricFamily("stoker_demand_tickets", "Claims that wait for a worker.", labels=["profile"])
    workers = GaugeMetricFamily("stoker_workers", "Workers that live.", labels=["profile", "state"])
    for family in sorted({row["family"] for row in pool}):
        rows = [row for row in pool if row["family"] == family]
        floor.add_metric([family], sum(row["floor"] for row in rows if row["is_current"] and not row["draining"]))
        demand.add_metric([family], sum(row["waiting"] for row in rows))
        for state in _STATES:
            workers.add_metric([family, state], sum(row[state] for row in rows))
        workers.add_metric([family, "draining"], sum(row["stopping"] for row in rows))
    yield from (floor, demand, workers)
