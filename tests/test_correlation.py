"""Whatever is published for somebody is published in his story, whoever publishes it and whatever that one works for."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest

from config.names import OPERATION_SHOW_TASK, REAP_TASK, RECONCILE_TASK
from scheduler.core.correlation import LONGEST
from scheduler.errors import Refused
from scheduler.redis.coalescing.protocol import Follower
from scheduler.redis.connection import connect
from scheduler.store.beat import Claimed
from tasks import correlation, ticks
from tasks.beat.publisher import Publisher
from tasks.coalescing import handing, payload
from tasks.context import Context
from tasks.correlation import HEADER

assert ticks  # registers the task


def queued(context: Context, task: str) -> list[str | None]:
    """The stories of the messages of this task, oldest first."""
    with closing(connect(context.settings.redis_client_url)) as client:
        messages = [json.loads(text) for text in client.lrange(context.settings.routes[task], 0, -1)]
    return [message["headers"].get(HEADER) for message in reversed(messages) if message["headers"]["task"] == task]


def request(**options: Any) -> str:
    return payload.write(RECONCILE_TASK, (), {}, {"queue": "control", **options})


def test_what_follows_a_follower_is_in_its_story_and_not_in_that_of_the_run(context: Context) -> None:
    task = context.app.tasks[RECONCILE_TASK]
    then = context.app.signature(
        OPERATION_SHOW_TASK, args=(1,), immutable=True, options={"queue": context.settings.routes[OPERATION_SHOW_TASK]}
    )
    followers = [
        Follower("1", request(headers={HEADER: "mine"}, link=[then], ignore_result=True)),
        # Of a version that gives no id.
        Follower("2", request(link=[then], ignore_result=True)),
    ]
    with correlation.within("of the run"):
        handing.succeed(task, followers, {})
        assert correlation.current() == "of the run"
    assert queued(context, OPERATION_SHOW_TASK) == ["mine", None]


@pytest.mark.parametrize("story", ["mine", None])
def test_an_heir_is_published_in_its_own_story(context: Context, story: str | None) -> None:
    with correlation.within("of who gave up"):
        context.app.tasks[RECONCILE_TASK].publish("1", request(**({"headers": {HEADER: story}} if story else {})))
    assert queued(context, RECONCILE_TASK) == [story]


def test_a_tick_that_is_asked_for_is_a_part_of_the_story(context: Context) -> None:
    with correlation.within("a claim"):
        context.request_reconcile("echo@1")
    context.request_reconcile("other@1")
    assert queued(context, RECONCILE_TASK) == ["a claim", None]


@pytest.mark.parametrize(("asked_by", "story"), [("somebody", "7"), (None, None)])
def test_what_beat_sends_is_a_story_where_somebody_asked_for_it(
    context: Context, asked_by: str | None, story: str | None
) -> None:
    now = datetime.now(UTC)
    tick = Claimed(1, "reap", now, "7", REAP_TASK, [], {}, None, None, now, asked_by)
    with closing(Publisher(context.app, context.settings.redis_client_url)) as publisher:
        publisher.send(tick, 1)
    assert queued(context, REAP_TASK) == [story]


def test_a_story_is_the_given_one_or_that_around_it_or_a_new_one() -> None:
    assert correlation.chosen("given") == "given"
    with correlation.within("around"):
        assert (correlation.chosen(), correlation.chosen("given")) == ("around", "given")
        with correlation.within(None):
            assert correlation.current() is None
    assert len(correlation.chosen()) == 32
    assert correlation.chosen() != correlation.chosen()


@pytest.mark.parametrize("wrong", ["two words", "a" * (LONGEST + 1), "line\n", "naïve"])
def test_what_cannot_be_searched_for_is_refused_and_in_a_message_dropped(wrong: str) -> None:
    with pytest.raises(Refused, match="printable ASCII"):
        correlation.chosen(wrong)
    assert correlation.told({HEADER: wrong}) is None
    assert correlation.told({HEADER: 7}) is correlation.told({}) is correlation.told(None) is None
