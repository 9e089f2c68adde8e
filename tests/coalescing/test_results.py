"""The result that a request has before anybody waits for it is as good as Celery's own."""

from __future__ import annotations

import copy
import pickle
import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest
from celery import Celery
from celery.result import AsyncResult

from tasks.coalescing.results import results_of
from tasks.coalescing.task import _new_id


@pytest.fixture
def app() -> Iterator[Celery]:
    with closing(Celery("results-test", set_as_current=False, backend="cache+memory://")) as made:
        yield made


def test_it_is_the_apps_own_when_copied_or_pickled(app: Celery) -> None:
    result = results_of(app)("id-1", app.backend)
    assert isinstance(result, app.AsyncResult)
    again = copy.copy(result)
    assert (again.id, again.backend, again.app) == ("id-1", app.backend, app)
    assert result == app.AsyncResult("id-1") == again
    assert pickle.loads(pickle.dumps(app)).main == app.main  # noqa: S301 - made here
    assert isinstance(pickle.loads(pickle.dumps(result)), AsyncResult)  # noqa: S301 - made here


def test_who_waits_is_told_once_it_stands(app: Celery) -> None:
    make, told = results_of(app), []
    result, other = make("id-1", app.backend), make("id-2", app.backend)
    result.on_ready.then(lambda found: told.append(found.result))
    assert (result.ready(), result.ignored, told) == (False, False, [])
    app.backend.store_result("id-1", 7, "SUCCESS")
    assert (result.get(timeout=1), told) == (7, [7])
    assert not other.on_ready.ready, "each has a promise of its own"


def test_a_new_id_is_a_random_uuid() -> None:
    ids = {_new_id() for _ in range(200)}
    assert len(ids) == 200
    assert {(str(uuid.UUID(id_)) == id_, uuid.UUID(id_).version, uuid.UUID(id_).variant) for id_ in ids} == {
        (True, 4, uuid.RFC_4122)
    }
