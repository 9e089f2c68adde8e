"""The simulator serves what comes as servers would, and shows what the policy is for: no starving, and no flood that passes."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.queue_simulation import POLICIES, Message, Outcome, dequeues, simulate, slack_dequeues
from scheduler.core.queues import QueueClass

CLASSES = (
    QueueClass("control", 1.0),
    QueueClass("user_waiting", 1.0),
    QueueClass("user_facing", 5.0, 0.25),
    QueueClass("spawn", 5.0, 0.25),
    QueueClass("background", 30.0, 0.10),
)
SERVICE_S = 0.01  # a server does 100 a second
UNTIL_S = 120.0

policies = st.sampled_from(sorted(POLICIES))
works = st.lists(
    st.builds(
        Message,
        st.sampled_from([kind.name for kind in CLASSES]),
        st.floats(0, 50),
        st.floats(0.01, 9),
    ),
    max_size=40,
).map(lambda messages: sorted(messages, key=lambda message: message.at_s))


def comings(kind: str, per_s: float, seed: int = 1) -> Iterator[Message]:
    """Messages that come independently of one another."""
    dice = random.Random(f"{seed}/{kind}")
    at_s = 0.0
    while (at_s := at_s + dice.expovariate(per_s)) < UNTIL_S:
        yield Message(kind, at_s, SERVICE_S)


def every(gap_s: float, kind: str) -> list[Message]:
    return [Message(kind, number * gap_s, SERVICE_S) for number in range(1, int(UNTIL_S / gap_s))]


def in_order(*messages: Message) -> list[Message]:
    return sorted(messages, key=lambda message: message.at_s)


def outcomes(messages: list[Message], policy: str, servers: int = 1) -> dict[str, Outcome]:
    found = simulate(CLASSES, messages, POLICIES[policy], servers=servers, until_s=UNTIL_S)
    return {outcome.kind.name: outcome for outcome in found}


def waited_s(outcome: Outcome, share: float) -> float:
    wait_s = outcome.wait_s(share)
    assert wait_s is not None
    return wait_s


@pytest.fixture(scope="module")
def flood() -> dict[str, dict[str, Outcome]]:
    """6,000 at once, beside 50 a second that somebody waits for, where 100 a second can be done."""
    messages = [Message("background", 0.0, SERVICE_S)] * 6_000 + list(comings("user_waiting", 50.0))
    return {policy: outcomes(messages, policy) for policy in POLICIES}


@pytest.fixture(scope="module")
def overload() -> dict[str, dict[str, Outcome]]:
    """120 a second that somebody waits for, above two trickles of 5 a second."""
    messages = in_order(*comings("user_waiting", 120.0), *every(0.2, "spawn"), *every(0.2, "background"))
    return {policy: outcomes(messages, policy) for policy in POLICIES}


def test_a_flood_below_passes_all_at_once_under_the_usual_rules_against_starving(
    flood: dict[str, dict[str, Outcome]],
) -> None:
    medians = {policy: waited_s(found["user_waiting"], 0.5) for policy, found in flood.items()}
    assert medians["strict"] < 0.02
    assert medians["reserve"] < 0.02
    assert 10 < medians["oldest_first"] < 20
    assert 10 < medians["earliest_deadline"] < 20
    assert medians["round_robin"] > 20 * medians["reserve"]


def test_under_a_flood_nobody_who_waits_notices_the_reserve(flood: dict[str, dict[str, Outcome]]) -> None:
    strict, reserve = flood["strict"]["user_waiting"], flood["reserve"]["user_waiting"]
    assert reserve.violations == strict.violations == 0
    assert waited_s(reserve, 0.99) < 2 * waited_s(strict, 0.99)
    assert flood["reserve"]["background"].reserved > 0


def test_below_an_overload_what_fits_in_its_reserve_waits_its_bound_and_no_more(
    overload: dict[str, dict[str, Outcome]],
) -> None:
    for name, bound_s in (("spawn", 5.0), ("background", 30.0)):
        ours = overload["reserve"][name]
        assert ours.violations == 0
        assert bound_s < waited_s(ours, 1) <= ours.allowed_s < bound_s + 0.2
        assert ours.reserved == ours.served > 0
    assert waited_s(overload["reserve"]["background"], 0.5) == pytest.approx(30.1, abs=0.05)


def test_below_an_overload_strict_priority_starves(overload: dict[str, dict[str, Outcome]]) -> None:
    for name in ("spawn", "background"):
        starved = overload["strict"][name]
        assert starved.served <= 1, "before the overload had come"
        assert waited_s(starved, 1) > 0.99 * UNTIL_S


def test_an_overload_takes_what_the_reserves_gave(overload: dict[str, dict[str, Outcome]]) -> None:
    strict, reserve = overload["strict"]["user_waiting"], overload["reserve"]["user_waiting"]
    given_away = sum(overload["reserve"][name].reserved for name in ("spawn", "background"))
    assert strict.served - reserve.served == pytest.approx(given_away, abs=2)


def test_each_policy_is_given_the_same_work(flood: dict[str, dict[str, Outcome]]) -> None:
    counts = [[(name, outcome.count) for name, outcome in found.items()] for found in flood.values()]
    assert all(each == counts[0] for each in counts)
    assert counts[0] == [(kind.name, flood["strict"][kind.name].count) for kind in CLASSES]


@given(works, policies, st.integers(1, 4))
def test_servers_do_one_thing_at_a_time_and_never_idle_while_something_waits(
    messages: list[Message], policy: str, servers: int
) -> None:
    taken = list(dequeues(CLASSES, messages, POLICIES[policy], servers=servers, until_s=1_000.0))
    assert sorted(id(one.message) for one in taken) == sorted(map(id, messages))
    for one in taken:
        assert one.start_s >= one.message.at_s
        busy = [o for o in taken if o.start_s <= one.start_s < o.start_s + o.message.service_s]
        assert len(busy) <= servers
        # Until just before it began, every server was at work, or it came at that instant.
        held = [o for o in taken if o.start_s < one.start_s <= o.start_s + o.message.service_s]
        assert one.start_s == one.message.at_s or len(held) >= servers


@given(works, policies, st.integers(1, 3))
def test_each_queue_is_first_in_first_out(messages: list[Message], policy: str, servers: int) -> None:
    taken = list(dequeues(CLASSES, messages, POLICIES[policy], servers=servers, until_s=1_000.0))
    for kind in CLASSES:
        assert [one.message for one in taken if one.message.kind == kind.name] == [
            message for message in messages if message.kind == kind.name
        ]


@given(works, policies, st.floats(50, 90))
def test_nothing_is_lost_between_what_was_served_and_what_is_left(
    messages: list[Message], policy: str, until_s: float
) -> None:
    found = simulate(CLASSES, messages, POLICIES[policy], servers=1, until_s=until_s)
    assert sum(outcome.count for outcome in found) == len(messages)
    for outcome in found:
        assert 0 <= outcome.reserved <= outcome.served <= outcome.count
        assert outcome.left == outcome.count - outcome.served
        assert list(outcome.waits_s) == sorted(outcome.waits_s)
        assert all(0 <= wait_s <= until_s for wait_s in outcome.waits_s)


def test_what_is_left_at_the_end_has_waited_until_then() -> None:
    messages = [Message("spawn", 0.0, 100.0), Message("spawn", 4.0, 1.0), Message("spawn", 5.0, 1.0)]
    spawn = simulate(CLASSES, messages, POLICIES["strict"], servers=1, until_s=10.0)[3]
    assert (spawn.waits_s, spawn.served, spawn.left) == ((0.0, 5.0, 6.0), 1, 2)
    assert [spawn.wait_s(share) for share in (0.0, 0.5, 0.99, 1.0)] == [0.0, 5.0, 6.0, 6.0]


def test_of_nothing_no_wait_is_told() -> None:
    empty = outcomes([], "reserve")["spawn"]
    assert (empty.count, empty.left, empty.violations, empty.wait_s(0.5)) == (0, 0, 0.0, None)


def test_what_came_too_late_for_its_bound_is_a_violation() -> None:
    allowed_s = outcomes(every(1.0, "control"), "strict")["control"].allowed_s
    assert allowed_s == pytest.approx(1.0 + SERVICE_S)
    late = [Message("control", 0.0, 3.0), Message("control", 1.0, 3.0)]
    assert simulate(CLASSES, late, POLICIES["strict"], servers=1, until_s=9.0)[0].violations == 0
    later = [*late, Message("control", 1.5, 3.0)]
    assert simulate(CLASSES, later, POLICIES["strict"], servers=1, until_s=9.0)[0].violations == pytest.approx(1 / 3)


def test_rotation_serves_each_queue_in_turn() -> None:
    messages = [Message(kind.name, 0.0, 1.0) for kind in CLASSES for _ in range(3)]
    taken = dequeues(CLASSES, messages, POLICIES["round_robin"], servers=1, until_s=99.0)
    assert [one.message.kind for one in taken] == [kind.name for kind in CLASSES] * 3


def test_the_slack_is_the_work_in_hand_and_what_may_go_before() -> None:
    assert slack_dequeues(CLASSES[0], CLASSES) == 1
    assert slack_dequeues(CLASSES[4], CLASSES) == 1 + 1 / 0.10 + 2 / (1 - 0.50)
    assert slack_dequeues(CLASSES[4], CLASSES, burst=5) == 1 + 5 / 0.10 + 2 / (1 - 0.50)
    assert slack_dequeues(CLASSES[4], CLASSES[4:]) == 1 + 1 / 0.10


def test_messages_in_the_order_of_their_coming_are_asked_for() -> None:
    with pytest.raises(AssertionError, match="out of order"):
        outcomes([Message("spawn", 2.0, 1.0), Message("spawn", 1.0, 1.0)], "strict")
    with pytest.raises(AssertionError, match="after the end"):
        outcomes([Message("spawn", 2 * UNTIL_S, 1.0)], "strict")
