"""The order of service: first come first served within a tenant, tenants in turn, nobody past a cap."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.rotation import Waiting, serving_order

NOW = 1_000.0
TENANTS = ("acme", "globex", "initech", "umbrella")

queues = st.lists(st.tuples(st.sampled_from(TENANTS), st.floats(0, 900)), max_size=25).map(
    lambda asked: [Waiting(number, tenant, at) for number, (tenant, at) in enumerate(asked, 1)]
)
grants = st.dictionaries(st.sampled_from(TENANTS), st.floats(0, 999))
rooms = st.dictionaries(st.sampled_from(TENANTS), st.none() | st.integers(-1, 4))


def order(waiting: list[Waiting], workers: int = 99, **room: int | None) -> list[int]:
    return serving_order(waiting, {}, room, NOW, workers)


def test_tenants_take_turns_whatever_the_length_of_their_queues() -> None:
    flood = [Waiting(n, "acme", float(n)) for n in range(1, 6)]
    late = [Waiting(6, "globex", 6.0), Waiting(7, "globex", 7.0), Waiting(8, "initech", 8.0)]
    assert order(flood + late) == [1, 6, 8, 2, 7, 3, 4, 5]


def test_who_was_served_last_waits_longest() -> None:
    waiting = [Waiting(1, "acme", 1.0), Waiting(2, "globex", 2.0)]
    assert serving_order(waiting, {"acme": 500.0}, {}, NOW, 2) == [2, 1]


def test_a_tenant_at_its_cap_holds_up_nobody() -> None:
    waiting = [Waiting(1, "acme", 1.0), Waiting(2, "globex", 2.0), Waiting(3, "acme", 3.0)]
    assert order(waiting, acme=0) == [2]
    assert order(waiting, acme=1) == [1, 2]


@given(queues, grants, rooms, st.integers(0, 30))
def test_first_come_first_served_within_a_tenant(
    waiting: list[Waiting], last: dict[str, float], room: dict[str, int | None], workers: int
) -> None:
    served = serving_order(waiting, last, room, NOW, workers)
    by_id = {ticket.id: ticket for ticket in waiting}
    for tenant in TENANTS:
        mine = [by_id[number] for number in served if by_id[number].tenant == tenant]
        asked = sorted((t for t in waiting if t.tenant == tenant), key=lambda t: (t.asked, t.id))
        assert mine == asked[: len(mine)]


@given(queues, grants, rooms, st.integers(0, 30))
def test_caps_hold_and_no_worker_lies_idle_beside_one_who_may_have_it(
    waiting: list[Waiting], last: dict[str, float], room: dict[str, int | None], workers: int
) -> None:
    served = serving_order(waiting, last, room, NOW, workers)
    by_id = {ticket.id: ticket.tenant for ticket in waiting}
    got, asked = Counter(by_id[number] for number in served), Counter(by_id.values())
    able = 0
    for tenant, tickets in asked.items():
        allowed = room.get(tenant)
        most = tickets if allowed is None else min(tickets, max(0, allowed))
        assert got[tenant] <= most
        able += most
    assert len(served) == min(workers, able)


@given(queues, grants)
def test_between_two_grants_to_a_waiting_tenant_every_other_gets_at_most_one(
    waiting: list[Waiting], last: dict[str, float]
) -> None:
    by_id = {ticket.id: ticket.tenant for ticket in waiting}
    served = [by_id[number] for number in serving_order(waiting, last, {}, NOW, 99)]
    for tenant in set(served):
        turns = [-1, *(place for place, who in enumerate(served) if who == tenant)]
        for before, after in pairwise(turns):
            between = Counter(served[before + 1 : after])
            assert all(count == 1 for count in between.values()), (tenant, served)
