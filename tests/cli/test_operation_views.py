"""What people see of operations, from canned rows: whatever their state, on terminals of any width."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console, RenderableType

from tasks.cli import operation_views
from tasks.cli.output import duration
from tasks.cli.timeline import Line, timeline

ORIGIN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WIDTHS = (20, 40, 59, 60, 80, 120, 200)
NODES = ("n1", "n1", "n2")
TASKS = ("step.update_dnsmasq", "step.ensure_mesh", "step.plug_interface")


def at(seconds: float) -> datetime:
    return ORIGIN + timedelta(seconds=seconds)


def ran(step: int, began: float, ended: float, state: str = "succeeded", **more: Any) -> dict[str, Any]:
    """An entry of a trail."""
    return {
        "step": step,
        "task": TASKS[step],
        "run": 100 + step,
        "state": state,
        "attempt": 1,
        "queue": "user_facing@n1",
        "lane_wait_s": 0.0,
        "began_at": at(began).isoformat(),
        "ended_at": at(ended).isoformat(),
        "how": "ran",
        "served": 1,
        **more,
    }


def folded(step: int, began: float, ended: float, into: int, where: str, **more: Any) -> dict[str, Any]:
    return ran(step, began, ended, how="folded", into=into, where=where, **more)


def run(led_by: int, step: int, began: float, state: str, ended: float | None = None, **more: Any) -> dict[str, Any]:
    """A row of the table of runs."""
    entry = ran(step, began, began, state, led_by=led_by, task_id=f"op{led_by}.{step}-0123abcd", run=200, **more)
    return {**entry, "ended_at": None if ended is None else at(ended)}


def row(state: str, *trail: dict[str, Any], took: float = 10.0, step: int = 0, **more: Any) -> dict[str, Any]:
    """An operation of three steps."""
    is_over = state in {"succeeded", "failed", "cancelled"}
    return {
        "id": 7,
        "kind": "interface.plug",
        "target": "blue/web1",
        "queue": "user_facing",
        "state": state,
        "steps": len(TASKS),
        "step": step,
        "unmet": 0,
        "asked": 1,
        "error": None,
        "submitted_at": ORIGIN,
        "queued_at": ORIGIN,
        "began_at": None,
        "ended_at": at(took) if is_over else None,
        "took_s": took,
        "plan": [{"task": task, "arguments": {}, "node": node} for task, node in zip(TASKS, NODES, strict=True)],
        "trail": list(trail),
        "needs": [],
        "after": [],
        "awaited_by": [],
        "correlation_id": "4711",
        **more,
    }


SUCCEEDED = row(
    "succeeded",
    {"how": "folded", "where": "in_operation", "times": 2},
    ran(0, 2.0, 3.0, served=3, lane_wait_s=1.5),
    folded(1, 4.0, 6.0, 5, "at_worker"),
    ran(2, 8.0, 10.0),
    step=3,
    asked=4,
    awaited_by=[9, 10],
)
WAITING = row("waiting", unmet=2, needs=[3, 4], after=[5], queued_at=None)
QUEUED = row("queued")
RUNNING = row("running", ran(0, 1.0, 2.0), step=1, runs=[run(7, 1, 4.0, "running")])
FOLLOWING = row("running", ran(0, 1.0, 2.0), step=1, runs=[run(6, 0, 4.0, "running", served=2)])
RETRIED = row("running", ran(0, 1.0, 2.0, "retried", error="busy"), step=0)
LOST = row("running", step=0, runs=[run(7, 0, 1.0, "lost", 6.0), run(7, 0, 8.0, "running", attempt=2)])
FAILED = row("failed", ran(0, 1.0, 2.0), ran(1, 3.0, 10.0, "failed"), step=1, error="[b]no right[/b] to do it")
SHARED_FAILURE = row("failed", folded(0, 1.0, 10.0, 5, "on_submit", state="failed"), error="no")
DOOMED = row("failed", needs=[3], queued_at=None, error="needs operation 3, which failed")
CANCELLED = row("cancelled", ran(0, 1.0, 2.0), step=1, runs=[run(7, 1, 4.0, "succeeded", 12.0)])
AT_ONCE = row("succeeded", ran(0, 0, 0), ran(1, 0, 0), ran(2, 0, 0), took=0.0, step=3)
ROWS = {
    "succeeded": SUCCEEDED,
    "waiting": WAITING,
    "queued": QUEUED,
    "running": RUNNING,
    "following": FOLLOWING,
    "retried": RETRIED,
    "lost": LOST,
    "failed": FAILED,
    "failed with others": SHARED_FAILURE,
    "failed for another": DOOMED,
    "cancelled": CANCELLED,
    "in no time": AT_ONCE,
}


def printed(renderable: RenderableType, width: int = 100, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    Console(file=file, width=width).print(renderable, highlight=False)
    file.flush()
    return raw.getvalue().decode(encoding)


def shown(of: dict[str, Any], width: int = 100) -> str:
    return " ".join(printed(operation_views.operation(of), width).split())


def line(of: dict[str, Any], position: int | None) -> Line:
    return next(line for line in timeline(of).lines if line.position == position)


def spans(of: dict[str, Any], position: int | None) -> list[tuple[str, float, float]]:
    return [(span.kind, span.from_s, span.to_s) for span in line(of, position).spans]


def hows(of: dict[str, Any], position: int | None) -> list[str]:
    return [part.how for part in line(of, position).parts]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ROWS)
def test_no_terminal_is_too_narrow(name: str, width: int) -> None:
    text = printed(operation_views.operation(ROWS[name]), width)
    assert max(map(len, text.splitlines())) <= width
    assert "update_dnsmasq" in text.replace("\n", "")


@pytest.mark.parametrize("width", [30, 79])
@pytest.mark.parametrize("name", ROWS)
def test_a_terminal_of_ascii_is_shown_ascii(name: str, width: int) -> None:
    assert printed(operation_views.operation(ROWS[name]), width, "ascii").startswith("operation 7")


@pytest.mark.parametrize("name", ROWS)
def test_a_row_that_was_json_meanwhile_is_the_same(name: str) -> None:
    again = json.loads(json.dumps(ROWS[name], default=lambda time: time.isoformat()))
    assert timeline(again) == timeline(ROWS[name])


@pytest.mark.parametrize("name", ROWS)
def test_every_step_has_a_line_whose_spans_follow_one_another(name: str) -> None:
    time = timeline(ROWS[name])
    assert [line.position for line in time.lines if line.position is not None] == [0, 1, 2]
    edges = [edge for line in time.lines for span in line.spans for edge in (span.from_s, span.to_s)]
    assert edges == sorted(edges)
    assert not edges or (edges[0] >= 0 and edges[-1] <= time.total_s)


def test_before_a_step_began_it_was_queued_and_then_parked() -> None:
    assert spans(SUCCEEDED, 0) == [("queued", 0.0, 0.5), ("parked", 0.5, 2.0), ("ran", 2.0, 3.0)]
    (part,) = line(SUCCEEDED, 0).parts
    assert (part.how, part.began_s, part.queued_s, part.parked_s, part.ran_s) == ("ran for 3", 2.0, 2.0, 1.5, 1.0)


def test_a_step_is_queued_from_the_end_of_the_one_before_it() -> None:
    assert spans(SUCCEEDED, 1) == [("queued", 3.0, 4.0), ("folded", 4.0, 6.0)]
    assert spans(SUCCEEDED, 2)[0] == ("queued", 6.0, 8.0)


def test_a_lane_that_another_had_waited_for_counts_from_when_this_came() -> None:
    trail = [ran(0, 1.0, 2.0), folded(1, 3.0, 4.0, 5, "at_worker", lane_wait_s=30.0)]
    assert spans(row("running", *trail, step=2), 1) == [("parked", 2.0, 3.0), ("folded", 3.0, 4.0)]


def test_where_and_into_what_it_folded_is_said() -> None:
    text = shown(SUCCEEDED)
    assert hows(SUCCEEDED, 1) == ["folded into 5 at the worker"]
    assert hows(SHARED_FAILURE, 0) == ["folded into 5 on submit, failed"]
    assert "2 equal steps folded inside the operation" in text
    assert "stands for 4 requests" in text
    assert "awaited by 9 and 10" in text
    assert "succeeded in 10.00 s" in text


def test_one_that_waits_says_for_whom() -> None:
    assert spans(WAITING, None) == [("waits", 0.0, 10.0)]
    assert hows(WAITING, 0) == ["to come"]
    text = shown(WAITING)
    assert "waiting for 10.00 s, on 2 more" in text
    assert "needs 3 and 4, after 5" in text


def test_one_that_waited_was_queued_from_the_end_of_that() -> None:
    waited = row("running", ran(0, 5.0, 6.0), step=1, needs=[3], queued_at=at(4.0))
    assert spans(waited, None) == [("waits", 0.0, 4.0)]
    assert spans(waited, 0)[0] == ("queued", 4.0, 5.0)


def test_one_that_is_queued_is_so_until_now_and_its_other_steps_are_to_come() -> None:
    assert spans(QUEUED, 0) == [("queued", 0.0, 10.0)]
    assert (hows(QUEUED, 0), hows(QUEUED, 1), spans(QUEUED, 1)) == (["queued"], ["to come"], [])


def test_one_that_runs_does_so_until_now() -> None:
    assert spans(RUNNING, 1) == [("queued", 2.0, 4.0), ("running", 4.0, 10.0)]
    assert hows(RUNNING, 1) == ["running"]
    assert hows(FOLLOWING, 1) == ["folded into 6, running"]


def test_a_step_that_is_tried_again_shows_each_time() -> None:
    assert [kind for kind, *_ in spans(RETRIED, 0)] == ["queued", "retried", "queued"]
    assert hows(RETRIED, 0) == ["retried, attempt 1: busy", "queued again"]
    assert hows(LOST, 0) == ["lost, attempt 1", "running, attempt 2"]


def test_what_failed_says_why_and_how_to_ask_again() -> None:
    text = shown(FAILED)
    assert "error: [b]no right[/b] to do it" in text
    assert "once more: stoker op submit interface.plug blue/web1" in text
    assert hows(FAILED, 2) == ["not reached"]
    assert "needs operation 3, which failed" in shown(DOOMED)
    assert hows(DOOMED, None) == ["waited"]


def test_what_was_cancelled_shows_the_run_that_outlived_it() -> None:
    assert spans(CANCELLED, 1) == [("queued", 2.0, 4.0), ("ran", 4.0, 12.0)]


def test_a_bar_fills_the_width_and_shows_even_the_shortest_run() -> None:
    brief = row("succeeded", ran(0, 0.0, 0.001), ran(1, 0.001, 9.0), ran(2, 9.999, 10.0), step=3)
    bars = [line for line in printed(operation_views.operation(brief), 120).splitlines() if "█" in line]
    assert [line.startswith(("1 update", "2 ensure", "3 plug")) for line in bars[:3]] == [True] * 3
    assert bars[1].count("█") > 70
    assert bars[2].rstrip().endswith("█")


def test_the_list_has_a_row_each_and_no_column_of_errors_without_one() -> None:
    text = printed(operation_views.operations([SUCCEEDED, QUEUED]), 80)
    assert "error" not in text
    assert "3/3" in text
    assert "error" in printed(operation_views.operations([FAILED]), 80)
    assert "none" in printed(operation_views.operations([]))


def test_who_submits_is_told_how_to_go_on() -> None:
    told = {"operation": 7, "state": "queued", "is_new": False, "address": "10.1.0.2"}
    assert "stoker op wait 7" in printed(operation_views.submitted(told))
    assert "stands for this request too" in printed(operation_views.submitted(told))
    failed = printed(operation_views.submitted({**told, "state": "failed", "error": "no", "took_s": 1.0}))
    assert "stoker op show 7" in failed
    done = {**told, "is_new": True, "state": "succeeded"}
    assert printed(operation_views.submitted(done)).split("\n")[0] == "operation 7 succeeded"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "-"), (0.0, "0 ms"), (0.0124, "12 ms"), (3.4567, "3.46 s"), (125.4, "2 min 5 s"), (7_300.0, "2 h 1 min")],
)
def test_times_are_said_as_people_do(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said
