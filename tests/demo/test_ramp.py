"""What the ramp is judged by: percentiles, overlaps and peaks, the figures of a recording, and who is left unheard."""

from __future__ import annotations

import dataclasses
import math
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.figures import pool_figures
from demo.journal import Journal
from demo.judgement import held, judge
from demo.measures import overlaps, peak, percentile, steps
from demo.record import Hold, Recording
from demo.stopping import StopSignals
from tasks.pool import Held

FINITE = st.floats(min_value=-1e6, max_value=1e6)
TIMES = st.integers(min_value=0, max_value=40)
ASKED_AT = 1_000.51  # after the burst, and a hundredth before its waiting tenant's claim is active


def hold(tenant: str, began_s: float, ended_s: float) -> Hold:
    return Hold(tenant, 1, 2, "http://127.0.0.1:24001", "hot_idle", "library", 4.0, began_s, ended_s)


@given(st.lists(FINITE, min_size=1), st.floats(min_value=0.01, max_value=1))
def test_a_percentile_is_the_smallest_value_that_covers_its_share(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= math.ceil(share * len(values))
    assert sum(value < found for value in values) < math.ceil(share * len(values))


def test_nothing_measured_has_no_percentile() -> None:
    assert percentile([], 0.5) is None


@given(st.lists(st.tuples(TIMES, TIMES).map(sorted).map(tuple), max_size=12))
def test_overlaps_are_found_exactly_when_two_intervals_share_time(intervals: list[tuple[int, int]]) -> None:
    share_time = any(
        max(a[0], b[0]) < min(a[1], b[1])
        for place, a in enumerate(intervals)
        for b in intervals[place + 1 :]
        if a[0] < a[1] and b[0] < b[1]
    )
    lasting = [interval for interval in intervals if interval[0] < interval[1]]
    assert (overlaps(("worker", interval) for interval in lasting) > 0) == share_time
    assert overlaps(enumerate(lasting)) == 0, "other workers' intervals are no overlap"


@given(st.lists(st.tuples(TIMES, TIMES).map(sorted).map(tuple), max_size=12))
def test_the_peak_is_the_most_that_are_open_at_one_time(intervals: list[tuple[int, int]]) -> None:
    lasting = [(began, ended) for began, ended in intervals if began < ended]
    counted = [sum(began <= at < ended for began, ended in lasting) for at in range(41)]
    assert peak(lasting) == max(counted)


def test_an_interval_without_an_end_stays_open() -> None:
    assert peak([(0, None), (5, 6), (7, None)]) == 2


@given(st.lists(FINITE, min_size=1))
def test_the_distribution_rises_to_one_at_its_last_value(values: list[float]) -> None:
    drawn = steps(values)
    assert [value for value, _ in drawn] == sorted(set(values))
    assert [share for _, share in drawn] == sorted({share for _, share in drawn})
    assert drawn[-1][1] == 1


def test_figures_of_a_recording(sample_run: Recording) -> None:
    figures = pool_figures(sample_run)
    wanted = {
        "tenants": 2,
        "floor": 1,
        "demand_peak": 2,
        "waiting_peak": 1,
        "slots_created": 3,
        "burst_to_slots_s": 0.1,
        "burst_served_s": 0.52,
        "reconciles_in_burst": 1,
        "peak_workers": 4,
        "claims": 3,
        "claims_by_celery": 1,
        "double_claims": 0,
        "cross_tenant": 0,
        "hot_idle_reuse": 1,
        "reaped": 1,
        "left_processes": 0,
    }
    assert {name: figures[name] for name in wanted} == wanted
    assert figures["claim_ms"]["warm"] == {"p50": 5.0, "p99": 5.0, "n": 1}
    assert figures["claim_ms"]["waited"]["p50"] == 520.0
    assert figures["ready_to_claimed_ms"] == {"p50": 20.0, "p99": 20.0, "n": 1}
    assert held(judge(figures))


def test_a_claim_that_came_after_its_worker_was_ready_counts_from_its_asking(sample_run: Recording) -> None:
    late = dataclasses.replace(sample_run.history.claims[1], asked_at=ASKED_AT)
    sample_run.history.claims[1] = late
    assert pool_figures(sample_run)["ready_to_claimed_ms"]["p50"] == 10.0


def test_slots_that_never_came_are_a_violation(sample_run: Recording) -> None:
    sample_run.history.reconciles.clear()
    figures = pool_figures(sample_run)
    assert figures["burst_to_slots_s"] is None
    assert not next(check for check in judge(figures) if check.name == "burst to slots").ok


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("double claims", lambda run: run.seen.holds.append(hold("a", 15.5, 17.0))),
        ("cross-tenant use", lambda run: run.seen.holds.append(hold("b", 17.0, 18.0))),
        ("cross-tenant use", lambda run: setattr(run.seen.refusals, "foreign_served", 1)),
        ("ended tokens served", lambda run: setattr(run.seen.refusals, "ended_served", 1)),
        ("wrong query results", lambda run: run.seen.wrong_results.append("how many? [[1]]")),
        ("failures", lambda run: run.seen.failures.append("a: no worker")),
        ("slots of the burst", lambda run: run.history.workers.pop(1)),
    ],
)
def test_each_violation_is_found_by_its_name(name: str, spoil: object, sample_run: Recording) -> None:
    assert callable(spoil)
    spoil(sample_run)
    checks = judge(pool_figures(sample_run))
    assert [check.name for check in checks if check.must and not check.ok] == [name]
    assert not held(checks)


def test_missing_an_aim_is_no_violation(sample_run: Recording) -> None:
    figures = pool_figures(sample_run)
    checks = judge(figures | {"burst_to_slots_s": 3.0})
    assert held(checks)
    assert next(check.name for check in checks if not check.ok) == "burst to slots"


def test_the_next_tenant_by_name_is_the_one_to_trespass_on() -> None:
    journal = Journal()
    assert journal.somebody_else("a") is None
    for tenant in ("a", "b", "c"):
        journal.holds(Held(tenant, "duckdb", 1, 1, "http://127.0.0.1:1", None, "warm", 6.0, "t"))
    assert [(other := journal.somebody_else(tenant)) and other.tenant for tenant in ("a", "b", "c")] == ["b", "c", "a"]
    assert journal.served == 3
    journal.held(hold("b", 0.0, 1.0))
    assert (other := journal.somebody_else("a")) is not None
    assert other.tenant == "c"
    assert journal.served == 3


def test_the_first_stop_signal_breaks_off_and_further_ones_hurry() -> None:
    forced: list[int] = []
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals(lambda: forced.append(1)) as signals:
        with pytest.raises(KeyboardInterrupt), signals.leaving():
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert forced == [1]
    assert signal.getsignal(signal.SIGTERM) is before
