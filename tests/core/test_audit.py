"""Rows without a worker and workers without a row: both are found, and the young are left alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.audit import AuditPlan, Found, Row, plan_audit

GRACE_S = 10.0
OLD_S, YOUNG_S = 60.0, 3.0


def audit(rows: list[Row], found: list[Found]) -> AuditPlan:
    return plan_audit({row.worker_id: row for row in rows}, found, grace_s=GRACE_S)


def test_a_row_whose_worker_is_gone_is_a_ghost() -> None:
    ghost = Row(1, 0, "a", OLD_S)
    assert audit([ghost], []) == AuditPlan(ghosts=[ghost])


def test_a_worker_without_a_row_is_an_orphan() -> None:
    orphan = Found(1, "a", OLD_S)
    assert audit([], [orphan]) == AuditPlan(orphans=[orphan])


def test_a_worker_of_an_earlier_launch_of_the_row_is_an_orphan() -> None:
    row, mine, earlier = Row(1, 0, "b", OLD_S), Found(1, "b", OLD_S), Found(1, "a", OLD_S)
    assert audit([row], [mine, earlier]) == AuditPlan(orphans=[earlier])


def test_the_young_are_neither() -> None:
    assert audit([Row(1, 0, "a", YOUNG_S)], [Found(2, "b", YOUNG_S)]) == AuditPlan()


def test_a_launch_whose_answer_was_not_recorded_yet_is_no_orphan() -> None:
    assert audit([Row(1, 0, None, OLD_S)], [Found(1, "a", OLD_S)]) == AuditPlan()


handles = st.sampled_from(["a", "b"])
ages = st.sampled_from([YOUNG_S, GRACE_S, OLD_S])
rows = st.lists(
    st.builds(Row, st.integers(1, 5), st.just(0), st.none() | handles, ages), unique_by=lambda r: r.worker_id
)
founds = st.lists(st.builds(Found, st.integers(1, 5), handles, ages), unique_by=lambda f: (f.worker_id, f.handle))


@given(rows, founds)
def test_nothing_that_the_other_side_claims_is_touched(rows: list[Row], founds: list[Found]) -> None:
    plan = audit(rows, founds)
    by_id = {row.worker_id: row for row in rows}
    running = {found.handle for found in founds}
    for orphan in plan.orphans:
        row = by_id.get(orphan.worker_id)
        assert orphan.age_s > GRACE_S
        assert row is None or row.handle not in {None, orphan.handle}
    for ghost in plan.ghosts:
        assert ghost.age_s > GRACE_S
        assert ghost.handle is not None
        assert ghost.handle not in running


@given(founds)
def test_every_old_worker_without_any_row_is_found(founds: list[Found]) -> None:
    assert audit([], founds).orphans == [found for found in founds if found.age_s > GRACE_S]
