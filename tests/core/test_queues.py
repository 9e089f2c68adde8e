"""The policy of the queues: it never idles, what is overdue has its reserve and no more, and each of its guards is needed."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core import queues
from scheduler.core.queue_simulation import Message, Policy, dequeues, oldest_first, slack_dequeues, strict
from scheduler.core.queues import Head, Pick, QueueClass, pick

ROUNDING = 1e-6  # credit is summed in floats
NAMES = ("a", "b", "c", "d", "e")
FIRST = QueueClass("a", bound_s=1.0)  # the best class: it needs no reserve

Moment = Sequence[Head]  # the heads at one dequeue
# A class, how many of its messages come at once, and all that comes: of what class, and when.
Work = tuple[QueueClass, int, list[tuple[str, float]]]


def ranked(*reserves: float, bound_s: float = 1.0) -> list[QueueClass]:
    return [FIRST, *(QueueClass(name, bound_s, share) for name, share in zip(NAMES[1:], reserves, strict=False))]


def head(kind: str, waited_s: float, node: str = "") -> Head:
    return Head(f"{kind}@{node}" if node else kind, kind, waited_s)


# Reserves in hundredths, less than 1 in all; some classes have none.
classes_of_work = st.lists(st.integers(0, 49), min_size=1, max_size=4).map(
    lambda parts: ranked(*(part / max(100, sum(parts) + 1) for part in parts))
)
waits = st.floats(0, 4)
moments = st.dictionaries(st.tuples(st.sampled_from(NAMES), st.sampled_from(["", "n1", "n2"])), waits, max_size=6).map(
    lambda held: [head(kind, waited_s, node) for (kind, node), waited_s in held.items()]
)
# At each moment any heads at all: more than any queues could do.
plays = st.lists(moments, max_size=60)
pressed_plays = st.lists(moments.map(lambda heads: [head("a", 0.0), *heads]), max_size=60)


def played(policy: Policy, classes: Sequence[QueueClass], play: Sequence[Moment]) -> list[Pick]:
    """Every pick of a play, in which no queue is of a class that there is not."""
    memory: Mapping[str, float] = {}
    picks = []
    for heads in play:
        picked = policy(classes, among(heads, classes), memory)
        if picked is not None:
            picks.append(picked)
            memory = picked.credit
    return picks


def among(heads: Moment, classes: Sequence[QueueClass]) -> list[Head]:
    known = {kind.name for kind in classes}
    return [one for one in heads if one.kind in known]


def sharing(classes: Sequence[QueueClass]) -> int:
    """How many classes have a reserve."""
    return sum(kind.reserve > 0 for kind in classes)


def most_credit(kind: QueueClass, classes: Sequence[QueueClass]) -> float:
    """The most credit that a class can have: its own, and what it gains while the others spend theirs before it."""
    others = [other.reserve for other in classes if other.reserve > 0 and other is not kind]
    return 1 + kind.reserve * len(others) / (1 - sum(others))


def most_over(counts: Sequence[float], share: float) -> float:
    """The most by which, in any window of consecutive dequeues, what was counted passes that share of them."""
    over = list(accumulate((count - share for count in counts), initial=0.0))
    lowest = list(accumulate(over, min))
    return max(now - before for now, before in zip(over, lowest, strict=True))


# What must hold. Each takes a policy, so that one whose guard is gone can be shown to break it.
#
# Why it does. Say that m classes have a reserve, and take all their credit together. A dequeue by reserve adds less than one
# and spends one. At any other at which credit is gained, those that are overdue have less than one each after it, and the
# rest one each at most. So all credit is never more than m, and none is below zero.
#
# A class of reserve r, where the others have R together, is passed over only while it has a credit and they have one. They
# have at most what it leaves of m and gain R at each dequeue, so that lasts (m - 1) / (1 - R) dequeues from when it has one.
# In each it gains r, so it never has more than 1 + r * (m - 1) / (1 - R). That is the most that its reserve gives it in n
# dequeues beside r * n of them, and the most by which it falls behind r * n while it is overdue.
#
# The head of a class has just become overdue: within a dequeue, for the one under way. Of what came since that head did a
# message that came t dequeues after it is the k-th, and k <= burst + r * t. It is served j dequeues on, once r * j is more
# than k and what the class fell behind: j <= (burst + r * t) / r + (m - 1) / (1 - R), and t of these had passed when it came.


def check_never_idle(policy: Policy, classes: Sequence[QueueClass], play: Sequence[Moment]) -> None:
    for heads in play:
        held = among(heads, classes)
        picked = policy(classes, held, {})
        assert (picked is not None) == bool(held)
        assert picked is None or picked.queue in {head.queue for head in held}


def check_reserves_hold(policy: Policy, classes: Sequence[QueueClass], play: Sequence[Moment]) -> None:
    """In any n consecutive dequeues the reserves give at most their sum of n, and one more for each class that has one.

    So does the reserve of each class: one more than its share, and what it was passed over for before.
    """
    picks = played(policy, classes, play)
    whole = sum(kind.reserve for kind in classes)
    assert most_over([pick.reserved for pick in picks], whole) <= sharing(classes) + ROUNDING
    for kind in classes:
        own = [pick.reserved and pick.queue.partition("@")[0] == kind.name for pick in picks]
        assert most_over(own, kind.reserve) <= most_credit(kind, classes) + ROUNDING


def check_credit_is_bounded(policy: Policy, classes: Sequence[QueueClass], play: Sequence[Moment]) -> None:
    """All credit together is never more than one for each class that has a reserve, and none is below zero."""
    for picked in played(policy, classes, play):
        credit = {kind: picked.credit.get(kind.name, queues.FULL_CREDIT) for kind in classes if kind.reserve > 0}
        assert sum(credit.values()) <= sharing(classes) + ROUNDING
        assert all(-ROUNDING <= left <= most_credit(kind, classes) + ROUNDING for kind, left in credit.items())


def check_best_keeps_its_share(policy: Policy, classes: Sequence[QueueClass], play: Sequence[Moment]) -> None:
    """Where the best class always waits, it gets all but the reserves of any n dequeues, whatever is below."""
    below = [pick.queue.partition("@")[0] != "a" for pick in played(policy, classes, play)]
    whole = sum(kind.reserve for kind in classes)
    assert most_over(below, whole) <= sharing(classes) + ROUNDING


def check_only_overdue_pass(policy: Policy, classes: Sequence[QueueClass], play: Sequence[Moment]) -> None:
    """Better work is passed by what is overdue and has a reserve, the longest overdue of those with credit, or by nothing."""
    ranks = {kind.name: rank for rank, kind in enumerate(classes)}
    bounds = {kind.name: kind.bound_s for kind in classes}
    reserves = {kind.name: kind.reserve for kind in classes}
    memory: Mapping[str, float] = {}
    for heads in play:
        held = among(heads, classes)
        picked = policy(classes, held, memory)
        if picked is None:
            continue
        taken = next(head for head in held if head.queue == picked.queue)
        best = min(ranks[head.kind] for head in held)
        assert picked.reserved == (ranks[taken.kind] > best)
        if picked.reserved:
            overdue_s = taken.waited_s - bounds[taken.kind]
            assert overdue_s > 0
            assert reserves[taken.kind] > 0
            for other in held:
                had_credit = reserves[other.kind] > 0 and picked.credit.get(other.kind, 0.0) >= 1
                if had_credit and ranks[other.kind] > best:
                    assert other.waited_s - bounds[other.kind] <= overdue_s
        memory = picked.credit


def check_oldest_of_a_class_first(policy: Policy, classes: Sequence[QueueClass], play: Sequence[Moment]) -> None:
    memory: Mapping[str, float] = {}
    for heads in play:
        held = among(heads, classes)
        picked = policy(classes, held, memory)
        if picked is not None:
            taken = next(head for head in held if head.queue == picked.queue)
            assert taken.waited_s == max(head.waited_s for head in held if head.kind == taken.kind)
            memory = picked.credit


def check_staleness_is_bounded(policy: Policy, classes: Sequence[QueueClass], work: Work) -> None:
    """I31, in dequeues of one second each: under an overload without end above it, what conforms is served in time."""
    kind, burst, came = work
    until_s = max(at_s for _, at_s in came) + kind.bound_s + slack_dequeues(kind, classes, burst) + 2
    overload = [("a", 0.0)] * math.ceil(until_s)
    messages = [Message(name, at_s, 1.0) for name, at_s in sorted(overload + came, key=lambda one: one[1])]
    waited = [
        taken.start_s - taken.message.at_s
        for taken in dequeues(classes, messages, policy, servers=1, until_s=until_s)
        if taken.message.kind == kind.name
    ]
    assert len(waited) == sum(name == kind.name for name, _ in came), f"{kind.name} starved"
    assert max(waited) <= kind.bound_s + slack_dequeues(kind, classes, burst) + ROUNDING


@st.composite
def conforming(draw: st.DrawFn) -> tuple[list[QueueClass], Work]:
    """Classes, and work for one of them that fits in its reserve, beside floods of the others."""
    parts = draw(st.lists(st.integers(4, 40), min_size=1, max_size=4))
    bounds = draw(st.lists(st.sampled_from([0.5, 3.0, 20.0]), min_size=len(parts), max_size=len(parts)))
    whole = max(100, sum(parts) + 1)
    below = [QueueClass(*one) for one in zip(NAMES[1:], bounds, [part / whole for part in parts], strict=False)]
    kind = draw(st.sampled_from(below))
    burst = draw(st.integers(1, 4))
    tokens, last_s, came = float(burst), 0.0, []
    for gap_s in draw(st.lists(st.sampled_from([0.0, 0.3, 1.0, 1 / kind.reserve, 40.0]), min_size=1, max_size=25)):
        at_s = last_s + gap_s
        tokens, last_s = min(burst, tokens + kind.reserve * gap_s), at_s
        if tokens >= 1:
            tokens -= 1
            came.append((kind.name, at_s))
    for other in below:
        if other is not kind:
            for at_s in draw(st.lists(st.floats(0, last_s), max_size=3)):
                came += [(other.name, at_s)] * draw(st.sampled_from([1, 5, 100]))
    return [FIRST, *below], (kind, burst, came)


@given(classes_of_work, plays)
def test_something_is_served_whenever_something_waits(classes: list[QueueClass], play: list[Moment]) -> None:
    check_never_idle(pick, classes, play)


@given(classes_of_work, plays)
def test_the_reserves_are_never_passed(classes: list[QueueClass], play: list[Moment]) -> None:
    check_reserves_hold(pick, classes, play)


@given(classes_of_work, plays)
def test_credit_does_not_pile_up(classes: list[QueueClass], play: list[Moment]) -> None:
    check_credit_is_bounded(pick, classes, play)


@given(classes_of_work, pressed_plays)
def test_a_flood_below_leaves_the_best_class_all_but_the_reserves(
    classes: list[QueueClass], play: list[Moment]
) -> None:
    check_best_keeps_its_share(pick, classes, play)


@given(classes_of_work, plays)
def test_only_what_is_overdue_passes_better_work_and_the_longest_first(
    classes: list[QueueClass], play: list[Moment]
) -> None:
    check_only_overdue_pass(pick, classes, play)


@given(classes_of_work, plays)
def test_within_a_class_the_oldest_is_first_whatever_its_queue(classes: list[QueueClass], play: list[Moment]) -> None:
    check_oldest_of_a_class_first(pick, classes, play)


@settings(deadline=None)
@given(conforming())
def test_what_fits_in_its_reserve_waits_its_bound_and_the_work_in_hand(
    scene: tuple[list[QueueClass], Work],
) -> None:
    check_staleness_is_bounded(pick, *scene)


@given(classes_of_work, st.lists(st.tuples(st.sampled_from(NAMES), st.floats(0, 30)), max_size=60))
def test_a_queue_is_first_in_first_out(classes: list[QueueClass], asked: list[tuple[str, float]]) -> None:
    known = {kind.name for kind in classes}
    messages = [Message(name, at_s, 1.0) for name, at_s in sorted(asked, key=lambda one: one[1]) if name in known]
    served = [taken.message for taken in dequeues(classes, messages, pick, servers=1, until_s=1_000.0)]
    assert len(served) == len(messages)
    for name in known:
        assert [m for m in served if m.kind == name] == [m for m in messages if m.kind == name]


def test_what_is_not_overdue_waits_for_all_that_is_better() -> None:
    heads = [head("a", 0.0), head("b", 1.0), head("c", 0.5)]
    assert played(pick, ranked(0.5, 0.4), [heads] * 20) == [Pick("a", {}, reserved=False)] * 20


def test_a_class_that_is_overdue_gets_exactly_its_reserve() -> None:
    picks = played(pick, ranked(0.25), [[head("a", 0.0), head("b", 9.0)]] * 401)
    assert Counter(pick.queue for pick in picks) == {"a": 300, "b": 101}
    assert "".join(pick.queue for pick in picks[:12]) == "baabaaabaaab"


def test_who_is_passed_over_makes_up_for_it() -> None:
    """With credit cut off at one, the last would have a part of its reserve only, and what fits in it would pile up."""
    heads = [head("a", 0.0), head("b", 90.0), head("c", 80.0), head("d", 70.0)]
    taken = Counter(pick.queue for pick in played(pick, ranked(0.25, 0.25, 0.1), [heads] * 2_000))
    assert [taken[name] for name in "abcd"] == pytest.approx([800, 500, 500, 200], abs=3)


# A class is overdue for a single dequeue, in which another is served, and goes by priority then: again and again.
CHARGED = [[head("a", 0.0), head("b", 99.0)]] * 3
SAVED_UP = [*CHARGED, [head("a", 0.0), head("b", 99.0), head("c", 9.0)], [head("c", 9.0)]] * 12
SPENT_AT_ONCE = [[head("a", 0.0), head("c", 9.0)]] * 12


def test_who_was_passed_over_and_then_served_saves_nothing_up() -> None:
    picks = played(pick, ranked(0.25, 0.25), [*SAVED_UP, *SPENT_AT_ONCE])
    assert sum(pick.reserved for pick in picks[-12:]) <= 12 * 0.25 + 1


def without(line: str, instead: str) -> Policy:
    """The policy with one of its guards switched off."""
    source = inspect.getsource(pick)
    assert source.count(line) == 1, f"the policy has no line {line!r}: mend this test with it"
    changed = dict(vars(queues))
    exec(source.replace(line, instead), changed)  # noqa: S102 - our own source
    policy: Policy = changed["pick"]
    return policy


FLOODED = [[head("a", 0.0), head("b", 50.0), head("c", 40.0)]] * 40
FRESH = [[head("a", 0.0), head("b", 0.5), head("c", 0.5)]]
NODES = [[head("b", 1.0, "n1"), head("b", 3.0, "n2"), head("b", 2.0)]]
QUARTERS = ranked(0.25, 0.25)
HALVES = ranked(0.5, 0.45)
TRICKLE: Work = (HALVES[2], 1, [("c", n / 0.45) for n in range(100)])
BESIDE_A_FLOOD: Work = (*TRICKLE[:2], [*TRICKLE[2], *[("b", 0.0)] * 200])

# A guard of the policy and what stands there instead, or another policy; what that breaks; where.
GUARDS: dict[str, tuple[tuple[str, str] | Policy, Callable[..., None], Sequence[QueueClass], object]] = {
    "no credit is spent": (("left[due] -= 1", "pass"), check_reserves_hold, HALVES, FLOODED),
    "no credit is needed": (("left[kind.name] >= 1 and ", ""), check_best_keeps_its_share, QUARTERS, FLOODED),
    "credit is saved up": (("min(saved, FULL_CREDIT)", "saved"), check_credit_is_bounded, QUARTERS, SAVED_UP),
    "who is passed over loses credit": (
        ("saved + kind.reserve", "min(saved, FULL_CREDIT) + kind.reserve"),
        check_staleness_is_bounded,
        HALVES,
        BESIDE_A_FLOOD,
    ),
    "a reserve while not overdue": (
        ("waited_s > kind.bound_s", "waited_s >= 0"),
        check_only_overdue_pass,
        HALVES,
        FRESH,
    ),
    "a turn without a reserve": (("kind.reserve > 0 and ", ""), check_only_overdue_pass, ranked(0.0), FLOODED),
    "the shortest overdue first": (("> overdue_s[due]", "< overdue_s[due]"), check_only_overdue_pass, HALVES, FLOODED),
    "the youngest of a class first": (
        ("> known.waited_s", "< known.waited_s"),
        check_oldest_of_a_class_first,
        HALVES,
        NODES,
    ),
    "an empty queue is served": (("if not waiting:", "if len(waiting) < 2:"), check_never_idle, HALVES, NODES),
    "strict only": (strict, check_staleness_is_bounded, HALVES, TRICKLE),
    "oldest first": (oldest_first, check_best_keeps_its_share, QUARTERS, FLOODED),
}


@pytest.mark.parametrize("guard", GUARDS)
def test_each_guard_is_needed(guard: str) -> None:
    changed, check, classes, scene = GUARDS[guard]
    broken = without(*changed) if isinstance(changed, tuple) else changed
    check(pick, classes, scene)
    with pytest.raises(AssertionError):
        check(broken, classes, scene)
