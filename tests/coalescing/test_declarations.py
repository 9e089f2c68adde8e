"""A task that is declared wrongly stops where it is declared, not when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from scheduler.errors import Refused
from tasks.coalescing import OWN_KEY, CoalescingTask


@pytest.fixture
def app() -> Iterator[Celery]:
    made = Celery("declarations", set_as_current=False, broker="memory://", backend="cache+memory://")
    yield made
    made.close()


def update(network: str, node: str = "any") -> str:
    return f"{network} {node}"


def starred(*networks: str) -> None:
    """Takes any number."""


def loose(network: str, **more: str) -> None:
    """Takes anything."""


def declare(app: Celery, function: Any = update, **options: Any) -> Any:
    return app.task(function, base=CoalescingTask, name=function.__name__, lazy=False, shared=False, **options)


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (update, {"key": ("networks",)}),
        (update, {"key": ()}),
        (update, {"key": "network"}),
        (update, {"key": ("network", "network")}),
        (update, {"lane": ("networks",)}),
        (update, {"lane": "network"}),
        (update, {"barrier": True}),
        (update, {"barrier": True, "lane": None}),
        (update, {"barrier": True, "lane": OWN_KEY}),
        (starred, {}),
        (loose, {"key": ("network",)}),
    ],
)
def test_a_bad_declaration_is_refused(app: Celery, function: Any, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        declare(app, function, **options)


def test_a_lazy_declaration_is_refused_when_the_app_is_finalized(app: Celery) -> None:
    app.task(update, base=CoalescingTask, key=("networks",), shared=False)
    with pytest.raises(TypeError):
        app.finalize()


def test_a_class_may_be_a_task_and_inherit_its_run(app: Celery) -> None:
    class Update(CoalescingTask):
        name = "update"
        key = ("network",)

        def run(self, network: str, node: str = "any") -> str:
            return update(network, node)

    class Later(Update):
        name = "later"
        key = ("network", "node")

    assert app.register_task(Update())._key.names == ("network",)
    assert app.register_task(Later())("blue") == "blue any"


def test_a_task_cannot_replace_itself(app: Celery) -> None:
    task = declare(app)
    with pytest.raises(Refused, match="cannot replace itself"):
        task.replace(task.s("blue"))
