"""The timeline says how often a step gave way, and when it ended; trails of an earlier version have neither wait nor number."""

from __future__ import annotations

import pytest

from tests.cli.test_operation_views import line, ran, row, shown

PARKED_TWICE = ran(0, 4.0, 5.5, wait_s=4.0, lane_wait_s=3.0, defers=2, folded=0)


@pytest.mark.parametrize("width", [50, 120])
def test_a_step_that_gave_way_twice_says_so(width: int) -> None:
    one = row("running", PARKED_TWICE, step=1)
    (part,) = line(one, 0).parts
    assert (part.queued_s, part.parked_s, part.defers, part.began_s, part.ended_s) == (4.0, 3.0, 2, 4.0, 5.5)
    text = shown(one, width)
    assert "3.00 s (2 times)" in text
    assert "5.50 s" in text
    assert "ended" in text


def test_one_that_gave_way_once_or_is_of_an_earlier_version_counts_nothing() -> None:
    assert "times)" not in shown(row("running", {**PARKED_TWICE, "defers": 1}, step=1))
    assert "times)" not in shown(row("running", ran(0, 4.0, 5.5, lane_wait_s=3.0), step=1))


def test_one_that_runs_has_not_ended() -> None:
    running = ran(0, 1.0, 1.0, "running", led_by=7, task_id="op7.0-0123abcd")
    (part,) = line(row("running", runs=[{**running, "ended_at": None}]), 0).parts
    assert (part.began_s, part.ended_s) == (1.0, None)
