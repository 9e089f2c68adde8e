"""How long tasks waited and why, added up from the events of their starts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import Counter, Histogram, disable_created_metrics

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from prometheus_client import CollectorRegistry

# The default bounds of queues are edges, so that "how many waited past it" is a figure and no guess.
_EDGES_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
# Whoever reaches the broker can send an event; a label of any text would be a series each.
_OTHER: Final = "other"

disable_created_metrics()  # type: ignore[no-untyped-call]


class Waits:
    """Counters and histograms of starts, since this process started."""

    def __init__(self, registry: CollectorRegistry, tasks: Collection[str], queues: Collection[str]) -> None:
        self._tasks, self._queues = frozenset(tasks), frozenset(queues)
        by_queue, by_task = ["queue"], ["task", "queue"]
        self._waited = Histogram(
            "stoker_queue_wait_seconds",
            "From a task's publication, or when it was due, to its start.",
            by_queue,
            buckets=_EDGES_S,
            registry=registry,
        )
        self._lane_waited = Histogram(
            "stoker_task_lane_wait_seconds",
            "Of that, for how long its lane was taken: of tasks that had to wait for it.",
            by_queue,
            buckets=_EDGES_S,
            registry=registry,
        )
        self._starts = Counter("stoker_task_starts", "Tasks that have begun to execute.", by_task, registry=registry)
        self._folds = Counter(
            "stoker_task_folds", "Requests that a start served beside its own.", by_task, registry=registry
        )
        self._defers = Counter(
            "stoker_task_defers",
            "Times that a task had to give way to another of its lane.",
            by_task,
            registry=registry,
        )

    def hear(self, event: Mapping[str, Any]) -> None:
        """One start. An event that is none of ours is passed over."""
        try:
            known = event["wait_s"] is not None
            wait_s = float(event["wait_s"]) if known else 0.0
            lane_wait_s, defers, folded = (float(event[name]) for name in ("lane_wait_s", "defers", "folded"))
            task, queue = str(event["name"]), str(event["queue"])
        except (KeyError, TypeError, ValueError):
            return
        if not all(0 <= number < math.inf for number in (wait_s, lane_wait_s, defers, folded)):
            return
        queue = queue if queue in self._queues else _OTHER
        labels = {"task": task if task in self._tasks else _OTHER, "queue": queue}
        self._starts.labels(**labels).inc()
        self._folds.labels(**labels).inc(folded)
        self._defers.labels(**labels).inc(defers)
        if known:
            self._waited.labels(queue).observe(wait_s)
        if defers:
            self._lane_waited.labels(queue).observe(lane_wait_s)
