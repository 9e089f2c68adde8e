"""A request as text is all that is needed to publish it again, and to finish it without a message."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery, signature
from kombu import Queue

from tasks.coalescing import payload
from tasks.coalescing.payload import Payload


def written(**options: Any) -> Payload:
    return Payload.read(payload.write("fold", ("blue",), {"node": 1}, options))


def test_a_request_reads_as_it_was_written() -> None:
    options = {"link": [signature("a", (1,))], "chain": [signature("b")], "group_index": 0, "headers": {"x": 1}}
    assert written(**options) == ("fold", ["blue"], {"node": 1}, json.loads(json.dumps(options)))


def test_what_only_concerned_one_publication_is_not_kept() -> None:
    how = {"producer": object(), "connection": object(), "retry": True, "retry_policy": {}, "add_to_parent": False}
    assert written(**how, shadow=None).options == {}


def test_a_queue_is_kept_by_its_name() -> None:
    assert written(queue=Queue("background")).options == written(queue="background").options == {"queue": "background"}


@pytest.mark.parametrize("convert", [lambda at: at, lambda at: at.isoformat(), lambda at: (at - now()).total_seconds()])
@pytest.mark.parametrize(("seconds", "expired"), [(-60, True), (60, False)])
def test_an_expiry_is_an_instant_however_it_was_given(convert: Any, seconds: float, expired: bool) -> None:  # noqa: FBT001
    assert written(expires=convert(now() + timedelta(seconds=seconds))).has_expired() is expired


def now() -> datetime:
    return datetime.now(UTC)


def test_without_an_expiry_nothing_expires() -> None:
    assert not written().has_expired()


def test_arguments_that_are_no_json_are_refused() -> None:
    with pytest.raises(TypeError):
        payload.write("fold", (object(),), {}, {})


def test_its_context_has_what_celery_asks_of_a_request() -> None:
    link, errback, chord = signature("a"), signature("b"), signature("c")
    context = written(
        link=link, link_error=[errback], chain=[signature("d")], chord=chord, group_id="g", group_index=2, root_id="r"
    ).context("id-1")
    assert (context.id, context.root_id, context.group, context.group_index) == ("id-1", "r", "g", 2)
    assert [each["task"] for each in (*context.callbacks, *context.errbacks, *context.chain)] == ["a", "b", "d"]
    assert context.chord["task"] == "c"
    assert not context.called_directly
    assert not context.ignore_result
    assert written(ignore_result=True).context("id-1").ignore_result


def test_a_request_without_callbacks_has_none_and_is_its_own_root() -> None:
    context = written().context("id-1")
    assert (context.callbacks, context.errbacks, context.chain, context.root_id) == (None, None, None, "id-1")


@pytest.mark.parametrize(("conf", "priority"), [({"task_inherit_parent_priority": True}, 3), ({}, None)])
def test_what_comes_next_is_of_its_family_and_of_its_priority_where_that_is_inherited(
    conf: dict[str, Any], priority: int | None
) -> None:
    sent: list[tuple[str, Any, dict[str, Any]]] = []

    class App(Celery):
        def send_task(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> None:  # noqa: ARG002
            sent.append((name, args, options))

    app = App("payload-test", set_as_current=False)
    app.conf.update(conf)
    chain = [signature("last", app=app), signature("next", app=app)]
    context = written(link=signature("linked", app=app), chain=chain, root_id="r", priority=3).context("id-1")
    payload.continue_with(app, context, "result")
    assert [(name, tuple(args)) for name, args, _ in sent] == [("linked", ("result",)), ("next", ("result",))]
    asked = [(options["parent_id"], options["root_id"], options.get("priority")) for _, _, options in sent]
    assert asked == [("id-1", "r", priority)] * 2
    assert [each["task"] for each in sent[1][2]["chain"]] == ["last"]
