"""Whatever a caller by name sends: an answer that says which argument, the bound and what was got, and nothing has changed."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

from config.names import OPERATION_TASKS
from scheduler.errors import Refused
from scheduler.store.database import Database
from tasks.context import Context
from tasks.inputs import ANSWER_MOST_BYTES, LIST_MOST, TEXT_MOST, answering, bounded, check_input
from tasks.logs import hide_secrets
from tests.support.fleet import Fleet

WRONG: dict[str, tuple[Any, str]] = {
    "long": ("x" * (TEXT_MOST + 1), f"expected at most {TEXT_MOST} printable characters; got 256 characters"),
    "a NUL": ("a\0b", "printable characters"),
    "a line's end": ("a\nb", "printable characters"),
    "half a character": ("\ud800", "printable characters"),
    "a great number": (2**63, "a number that SQL can hold; got 9.22337e+18"),
    "a number of a thousand digits": (10**1000, "a number that SQL can hold; got a greater one"),
    "many": ([1] * (LIST_MOST + 1), f"expected at most {LIST_MOST} of them; got 1001 of them"),
    "a list of text": (["x"], "a list of whole numbers"),
    "a list of lists": ([[1]], "a list of whole numbers"),
    "a list of answers": ([True], "a list of whole numbers"),
    "a list of great numbers": ([2**64], "a number that SQL can hold"),
    "an object": ({"x": 1}, "text, a number or a list of whole numbers; got dict"),
    "bytes": (b"x", "text, a number or a list of whole numbers; got bytes"),
}


@pytest.mark.parametrize(("value", "said"), WRONG.values(), ids=WRONG)
def test_what_no_argument_can_be_is_refused_by_name(value: Any, said: str) -> None:
    with pytest.raises(Refused, match="waiter") as refusal:
        check_input("waiter", value)
    assert said in str(refusal.value)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    "value", [None, True, 0, -5, 2**63 - 1, 0.5, "", "acme", "Straße", "x" * TEXT_MOST, [], [1, 2], (1,)]
)
def test_what_one_can_be_is_taken(value: Any) -> None:
    check_input("any", value)


def test_by_place_or_by_name_and_the_signature_stays() -> None:
    @bounded
    def task(self: Any, first: str, second: int = 1) -> tuple[str, int]:
        assert self
        return first, second

    assert list(inspect.signature(task).parameters) == ["self", "first", "second"]
    assert task(object(), "a", second=2) == ("a", 2)
    for given in (((object(), {}), {}), ((object(), "a"), {"second": {}})):
        with pytest.raises(Refused, match=r"first|second"):
            task(*given[0], **given[1])


def test_an_answer_is_no_longer_than_it_may_be() -> None:
    @answering
    def ask(size: int) -> dict[str, Any]:
        return {"outcome": "ok", "text": "x" * size}

    assert ask(10)["outcome"] == "ok"
    assert "expected at most 1048576 bytes" in ask(ANSWER_MOST_BYTES)["reason"]
    assert ask({})["outcome"] == "refused"  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*OPERATION_TASKS, "pool.claim"])
def test_every_task_that_is_asked_by_name_answers_so(context: Context, db: Database, name: str) -> None:
    """Each argument in turn, the others good ones: no task fails, and none does anything."""
    for module in ("tasks.operation_tasks", "tasks.pool_tasks"):
        importlib.import_module(module)
    task = context.app.tasks[name]
    parameters = inspect.signature(task.run).parameters
    good: dict[str, Any] = {
        each: "x" if parameter.default in {parameter.empty, ""} else parameter.default
        for each, parameter in parameters.items()
    }
    for argument in parameters:
        for what, (value, _) in WRONG.items():
            answer = task.run(**{**good, argument: value})
            assert answer["outcome"] == "refused", f"{argument}: {what}"
            assert argument in answer["reason"]
    assert db.rows("select 1 from operations union all select 1 from networks union all select 1 from tickets") == []


def test_a_long_fact_keeps_its_ends_in_the_log() -> None:
    text = hide_secrets(None, "info", {"event": "a" * 5_000 + "b" * 1_000_000 + "c" * 5_000})["event"]
    assert len(text) < 8_300
    assert text.startswith("aaa")
    assert text.endswith("ccc")
    assert "characters left out" in text


def test_what_a_program_said_of_its_end_is_cut_in_the_record(fleet: Fleet) -> None:
    (worker,) = fleet.idle()
    fleet.db.rows(
        "select move_worker(%(id)s, epoch, array['idle'], 'draining', repeat('x', 100000)) from workers where id = %(id)s",
        id=worker,
    )
    rows = fleet.db.rows("select length(detail::text) as n from events where worker_id = %(id)s", id=worker)
    assert 1_000 <= max(row["n"] for row in rows) < 1_200
