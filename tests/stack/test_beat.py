"""Two beats and what can happen to them: one sends at any time, no tick comes twice, and none is lost but what is counted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from scheduler.redis.connection import connect
from scheduler.store import schedule
from scheduler.store.beat import LEASE_S
from tests.support.beats import Beats, running_beats
from tests.support.deployment import BEATS
from tests.support.eventually import eventually

# Of a machine that does much else, where a beat that has never sent anything may have to load what that needs.
SLACK_S = 10.0


@pytest.fixture(scope="module")
def beats() -> Iterator[Beats]:
    with running_beats() as running:
        yield running


def logs(beats: Beats) -> str:
    folder = beats.deployment.settings.locations.logs
    return "".join((folder / f"{name}.log").read_text() for name in BEATS)


def test_of_two_one_sends_and_each_time_once(beats: Beats) -> None:
    holder = beats.until_active()
    assert holder.pid in {beats.deployment.stack.pids()[name] for name in BEATS}
    beats.add("plain")
    beats.until_sent("plain", 10)
    beats.check("plain")


def test_an_edit_is_in_force_within_a_second(beats: Beats) -> None:
    beats.until_active()
    beats.add("edited", "1h")
    began = time.monotonic()
    schedule.set_entry(beats.deployment.db, "edited", {"cadence": "100ms"}, by="test")
    beats.until_sent("edited", 1, since=0)
    assert time.monotonic() - began < 1.0 + SLACK_S
    schedule.set_enabled(beats.deployment.db, "edited", enabled=False, by="test")
    began = time.monotonic()
    schedule.request_run(beats.deployment.db, "edited", by="test")
    (asked,) = eventually(
        lambda: [row for row in schedule.ticks(beats.deployment.db, "edited") if row["asked_by"] and row["done_at"]],
        "the one that was asked for is sent",
        within_s=10,
    )
    assert time.monotonic() - began < 1.0 + SLACK_S
    assert asked["asked_by"] == "test"
    eventually(lambda: asked["task_id"] in beats.taker.seen, "it has come", within_s=3)
    beats.remove("edited")


def test_one_that_is_killed_is_followed_within_the_lease_and_its_ticks_are_sent(beats: Beats) -> None:
    beats.until_both()
    holder = beats.until_active()
    beats.add("killed")
    beats.until_sent("killed", 5)
    row = beats.deployment.db.row("select until from beat_lease where epoch = %(e)s", e=holder.epoch)
    beats.deployment.stack.kill(beats.service(holder), signal.SIGKILL)
    after = beats.until_active(other_than=holder.epoch)
    assert row is not None
    assert after.since < row["until"], "it waited for the end of the lease"
    assert after.epoch > holder.epoch
    assert after.pid != holder.pid
    beats.until_sent("killed", 5)
    beats.check("killed")


def test_one_that_stands_still_and_goes_on_sends_nothing_any_more(beats: Beats) -> None:
    beats.until_both()
    holder = beats.until_active()
    beats.add("stopped")
    beats.until_sent("stopped", 5)
    os.kill(holder.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        after = beats.until_active(other_than=holder.epoch)
        assert time.monotonic() - began < LEASE_S + SLACK_S
        beats.until_sent("stopped", 3)
    finally:
        os.kill(holder.pid, signal.SIGCONT)
    eventually(lambda: "another beat has taken over" in logs(beats), "the old one knows it", within_s=10)
    beats.until_sent("stopped", 5)
    assert beats.until_active().epoch >= after.epoch
    assert holder.pid in beats.deployment.stack.pids().values(), "it stands by, and has not ended"
    beats.check("stopped")


def test_a_flush_of_redis_loses_no_entry_and_no_tick(beats: Beats) -> None:
    beats.until_active()
    beats.add("flushed")
    beats.until_sent("flushed", 5)
    with closing(connect(beats.deployment.settings.redis_client_url)) as client:
        for _ in range(5):
            client.flushall()
            beats.until_sent("flushed", 2)
    # What had been sent and not yet been taken goes with a flush, as every message does.
    beats.check("flushed", lost=5)


@pytest.mark.parametrize("engine", ["postgres", "valkey"])
def test_an_engine_that_dies_ends_no_beat_and_doubles_no_tick(beats: Beats, engine: str) -> None:
    holder = beats.until_active()
    pids = {name: beats.deployment.stack.pids()[name] for name in BEATS}
    beats.add(engine)
    beats.until_sent(engine, 5)
    said = logs(beats).count("beat waits")
    if engine == "valkey":  # first it hangs: it comes back so soon that nobody would miss it
        os.kill(_pid(beats, engine), signal.SIGSTOP)
    else:
        os.kill(_pid(beats, engine), signal.SIGKILL)
    eventually(lambda: logs(beats).count("beat waits") > said, "it is said that an engine is away", within_s=10)
    if engine == "valkey":
        os.kill(_pid(beats, engine), signal.SIGKILL)
    beats.until_sent(engine, 5, within_s=40)
    assert {name: beats.deployment.stack.pids()[name] for name in BEATS} == pids
    assert logs(beats).count("beat waits") <= said + 2 * len(BEATS), "said once by each, not at each attempt"
    assert beats.until_active().epoch >= holder.epoch
    # One may be in the taker's hands, and others be there, when Redis ends.
    beats.check(engine, lost=3)


def _pid(beats: Beats, engine: str) -> int:
    (server,) = (one for one in beats.deployment.stack.engines.embedded if engine in one.name.lower())
    recorded = server._recorded()
    assert recorded is not None
    return recorded.pid
