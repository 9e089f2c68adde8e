"""The coalescing scripts by what they promise, and beside their model in any order of whatever may happen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from scheduler.redis.connection import connect
from tests.support.coalescing import World
from tests.support.coalescing_play import MANY, Play
from tests.support.coalescing_scenarios import SCENARIOS
from tests.support.servers import Servers

EXAMPLES = int(os.environ.get("STOKER_TEST_EXAMPLES", "150"))
ANY = st.integers(0, 11)
BOTH = st.booleans()
ASKS = st.lists(
    st.tuples(st.sampled_from(["a", "a", "a", "b", "b", "stop", "stop", "c", "d"]), st.integers(0, 2)),
    min_size=2,
    max_size=6,
)
# Few rules, each for many acts: hypothesis tries them alike, and a run needs work more often than a flush.
OF_A_RUN = ("done", "done", "retry", "later", "return", "behind", "behind", "twice", "dies", "dies", "renew", "renew")
OF_THE_WORLD = ("lost", "lost", "again", "again", "flush", "hours")


class Coalesced(RuleBasedStateMachine):
    client: redis.Redis

    @initialize(asks=ASKS)
    def start(self, asks: list[tuple[str, int]]) -> None:
        self.play = Play(self.client)
        self.ask(asks, silent=False)

    @rule(asks=ASKS, silent=st.sampled_from([False] * 7 + [True]))
    def ask(self, asks: list[tuple[str, int]], silent: bool) -> None:  # noqa: FBT001 - drawn
        for key, rank in asks:
            self.play.ask(key, rank, silent=silent)

    @rule(which=ANY, living=BOTH)
    def ask_again(self, which: int, living: bool) -> None:  # noqa: FBT001 - drawn
        self.play.ask_again(which)
        self.play.publish_an_heir(which, silent=living)

    @rule(which=ANY, by_token=BOTH, living=st.sampled_from([True, True, True, False]))
    def give_up(self, which: int, by_token: bool, living: bool) -> None:  # noqa: FBT001 - drawn
        self.play.give_up(which, by_token=by_token, living=living)

    @precondition(lambda self: any(self.play.model.queues.values()))
    @rule(which=ANY, at_once=st.sampled_from([True, True, True, False]))
    def take(self, which: int, at_once: bool) -> None:  # noqa: FBT001 - drawn
        self.play.take(which, at_once=at_once)

    @precondition(lambda self: self.play.hands or any(self.play.model.queues.values()))
    @rule(which=ANY, how=st.sampled_from(OF_A_RUN), whom=ANY)
    def work(self, which: int, how: str, whom: int) -> None:
        play = self.play
        if not play.hands:
            play.take(which)
        match how:
            case "done":
                play.done(which)
            case "retry" | "later":
                play.retry(which, 20 if how == "later" else 0)
            case "return":
                play.return_message(which)
            case "behind":
                play.learn_that_the_lane_is_taken(which, whom, 3 + whom)
            case "twice":
                play.begin_twice(which)
            case "dies":
                play.a_worker_dies(which)
            case "renew":
                play.renew(leaving_out=which % 4)
        play.begin_what_was_taken(whom)
        play.wake(whom)

    @rule(which=ANY, what=st.sampled_from(OF_THE_WORLD), really=ANY)
    def world(self, which: int, what: str, really: int) -> None:
        play = self.play
        match what:
            case "lost":
                play.a_message_is_lost(which)
            case "again":
                play.the_broker_hands_out_again(which)
            case "flush" if really > 8:
                play.flush()
            case "hours" if really > 8:
                play.hours_pass()

    @rule(seconds=st.sampled_from([1, 6, 16, 16, 40]), repairs=st.sampled_from([0, 1, MANY, MANY]))
    def time_passes(self, seconds: int, repairs: int) -> None:
        self.play.time_passes(seconds)
        if repairs:
            self.play.repair(repairs)

    @invariant()
    def all_is_well(self) -> None:
        self.play.all_is_well()

    def teardown(self) -> None:
        if hasattr(self, "play"):
            with closing(self.play.world):
                self.play.wind_up()


@pytest.fixture(scope="module")
def client(servers: Servers) -> Iterator[redis.Redis]:
    opened = connect(servers.redis_client_url)
    yield opened
    opened.close()


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_scripts_promise_that(client: redis.Redis, name: str) -> None:
    with closing(World(client)) as world:
        SCENARIOS[name](world)


@pytest.mark.timeout(60 + EXAMPLES)
def test_the_scripts_follow_their_model(client: redis.Redis) -> None:
    machine = type("CoalescedHere", (Coalesced,), {"client": client})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            # Not explain: it traces every line of every run, for minutes.
            phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
