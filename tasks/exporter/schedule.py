"""Whether a beat sends, and how what it is to send stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from scheduler.store import beat, figures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from scheduler.store.database import Database


def read(db: Database) -> Iterator[Metric]:
    """Both, as the database has them now.

    Raises:
        Temporary: it is away.
    """
    holder = beat.active_beat(db)
    yield GaugeMetricFamily("stoker_beat_active", "Whether a beat holds the lease.", value=float(holder is not None))
    if holder is not None:
        age = "Since it was last heard of."
        yield GaugeMetricFamily("stoker_beat_lease_age_seconds", age, value=max(0.0, holder.age_s))
    sent = CounterMetricFamily("stoker_schedule_sent", "Times that it was sent.", labels=["entry"])
    missed = CounterMetricFamily("stoker_schedule_missed", "Times that it was not: no beat ran.", labels=["entry"])
    overdue = GaugeMetricFamily("stoker_schedule_overdue_seconds", "For how long it has been due.", labels=["entry"])
    for row in figures.schedule(db):
        sent.add_metric([row["name"]], row["sent"])
        missed.add_metric([row["name"]], row["missed"])
        overdue.add_metric([row["name"]], row["overdue_s"])
    yield from (sent, missed, overdue)
