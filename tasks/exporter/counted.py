"""What SQL has counted: claims, which their processes carry there, and runs and operations, from the record of their ends."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, product
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from scheduler.core.misses import MissReason
from scheduler.core.operations import ENDED, RunState
from scheduler.store import tallies
from scheduler.store.launches import SPAWN_FAILURES
from tasks.launchers.base import EXITED, LAUNCH_FAILED, NODE_CLOSED, NOT_READY
from tasks.tallying import API_REQUESTS, API_WAITS, CLAIM_EDGES_S, CLAIM_SECONDS, CLAIMS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from prometheus_client import Metric

    from scheduler.store.database import Database
    from scheduler.store.tallies import Tally

WHERE: Final = ("on_submit", "at_worker", "in_operation", "equal_operation")
_ORIGINS: Final = ("hot_idle", "warm", "waited")
_SPAWNS_FAIL_BY: Final = (NOT_READY.name, EXITED.name, LAUNCH_FAILED.name, NODE_CLOSED.name)
_RUNS: Final = tuple(str(state) for state in RunState if state is not RunState.RUNNING)
# What ended since the last scrape; the rest of more is for the next.
_AT_ONCE: Final = 20_000


@dataclass(frozen=True, slots=True)
class _Counter:
    """A counter, and the values of its labels that are 0 until something is counted: a rate needs a 0 to rise from."""

    name: str
    says: str
    labels: tuple[str, ...]
    expected: Collection[tuple[str, ...]]
    sums: bool = False  # what was counted has a size, and that is added up


class Counted:
    """Counts what has ended and reads what was counted. Two exporters say the same, and a new one goes on from there."""

    def __init__(self, profiles: Collection[str], steps: Collection[str], kinds: Collection[str]) -> None:
        why = [("held", origin) for origin in _ORIGINS] + [("miss", str(reason)) for reason in MissReason]
        self._counters = (
            _Counter(
                CLAIMS,
                "Claims that ended so: by which way they were held, or why they were not.",
                ("profile", "outcome", "reason"),
                [(profile, *one) for profile, one in product(profiles, why)],
            ),
            _Counter(
                SPAWN_FAILURES,
                "Spawns that came to nothing, by why.",
                ("profile", "outcome"),
                list(product(profiles, _SPAWNS_FAIL_BY)),
            ),
            _Counter(
                API_REQUESTS,
                "Requests to a cluster's API server, by their answer's status.",
                ("verb", "code"),
                [("POST", "201"), ("DELETE", "200")],
            ),
            _Counter(
                API_WAITS,
                "How long those waited for this deployment's own limits.",
                ("verb",),
                [("POST",), ("DELETE",)],
                sums=True,
            ),
            _Counter("stoker_step_requests", "Times a step was asked for.", ("step",), [(step,) for step in steps]),
            _Counter(
                "stoker_folds",
                "Of those, served by a run that another request led, by where that was found.",
                ("step", "where"),
                list(product(steps, WHERE)),
            ),
            _Counter(
                "stoker_folds_missed",
                "Runs that had waited for a second when an equal one began, and did not share it.",
                ("step",),
                [(step,) for step in steps],
            ),
            _Counter("stoker_step_runs", "Runs that ended so.", ("step", "state"), list(product(steps, _RUNS))),
            _Counter(
                "stoker_operations_submitted",
                "Submits, of operations that have ended.",
                ("kind",),
                [(kind,) for kind in kinds],
            ),
            _Counter(
                "stoker_operations_ended",
                "Operations that ended so.",
                ("kind", "state"),
                list(product(kinds, sorted(map(str, ENDED)))),
            ),
        )

    def read(self, db: Database) -> Iterator[Metric]:
        """Every metric that is counted in SQL.

        Raises:
            Temporary: the database is away.
        """
        tallies.count_ended(db, _AT_ONCE)
        found = tallies.read(db)
        for counter in self._counters:
            metric = CounterMetricFamily(counter.name, counter.says, labels=counter.labels)
            seen = {  # a label that an earlier version did not write is empty, as Prometheus has it
                tuple(one.labels.get(label, "") for label in counter.labels): one.total if counter.sums else one.many
                for one in found
                if one.metric == counter.name
            }
            for values in sorted({*seen, *counter.expected}):
                metric.add_metric(values, seen.get(values, 0))
            yield metric
        yield _seconds([one for one in found if one.metric == CLAIM_SECONDS])


def _seconds(found: list[Tally]) -> Metric:
    """Prometheus wants of each edge what is below it; an edge of an earlier version stays one."""
    metric = HistogramMetricFamily(
        CLAIM_SECONDS, "From asking to being answered, by how that ended.", labels=["outcome"]
    )
    edges = sorted({*CLAIM_EDGES_S, *(one.edge for one in found if one.edge is not None)})
    for outcome in sorted({*_ORIGINS, "miss", "failed", *(one.labels["outcome"] for one in found)}):
        of = {one.edge: one for one in found if one.labels["outcome"] == outcome}
        below = accumulate(of[edge].many if edge in of else 0 for edge in (*edges, None))
        buckets = list(zip([*map(str, edges), "+Inf"], below, strict=True))
        metric.add_metric([outcome], buckets, sum_value=sum(one.total for one in of.values()))
    return metric
