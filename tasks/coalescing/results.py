"""A result for who asked and does not wait yet: Celery's own, without the promise that only waiting needs.

Of a submit that folds, to make that promise would be a tenth.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from vine import promise  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery
    from celery.result import AsyncResult


def results_of(app: Celery) -> Callable[[str, Any], AsyncResult]:
    """Makes results by their id and backend. They are pickled and copied as any of the app's."""
    base: Any = app.AsyncResult
    when_asked_for = cached_property(lambda result: promise(result._on_fulfilled, weak=True))  # noqa: SLF001 - Celery's own way
    when_asked_for.__set_name__(base, "on_ready")
    kind: Any = type(base.__name__, (base,), {"__module__": base.__module__, "on_ready": when_asked_for})

    def make(id_: str, backend: Any) -> AsyncResult:  # noqa: ANN401 - Celery's
        made: AsyncResult = kind.__new__(kind)
        made.__dict__.update(id=id_, backend=backend, parent=None, _cache=None, _ignored=False)
        return made

    return make
