"""Operations submitted with `operations.coalesce` off share nothing, and whoever submits as usual does not share with them."""

from __future__ import annotations

from scheduler.store.sync import apply_settings
from tests.conftest import MakeContext, MakeSettings


def test_equal_operations_are_one_unless_folding_is_off(make_settings: MakeSettings, make_context: MakeContext) -> None:
    usual = make_context(make_settings())
    apart = make_context(make_settings(operations={"coalesce": False}))
    apply_settings(usual.db, usual.settings)
    usual.networks.create("blue", "10.1.0.0/24")

    def refresh(context: object, times: int) -> list[int]:
        return [context.operations.submit("network.refresh", "blue").id for _ in range(times)]  # type: ignore[attr-defined]

    assert len({*refresh(usual, 2)}) == 1
    alone = refresh(apart, 2)
    assert len({*alone, *refresh(usual, 1)}) == 3
    marks = [{step["apart"] for step in usual.operations.show(number)["plan"]} for number in alone]
    assert [len(mark) for mark in marks] == [1, 1]
    assert marks[0].isdisjoint(marks[1])
    assert not any("apart" in step for step in usual.operations.show(refresh(usual, 1)[0])["plan"])
