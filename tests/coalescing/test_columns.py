"""What decides an effect is read from a call in one way, however the call is written."""

from __future__ import annotations

import enum
import json
import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.errors import Refused
from tasks.coalescing.columns import Columns

UUID = uuid.UUID("0123abcd-4567-89ab-cdef-0123456789ab")


class Colour(enum.Enum):
    BLUE = "blue"


class Size(enum.StrEnum):
    LARGE = "large"


class Level(enum.IntEnum):
    HIGH = 3


class Mixed(str, enum.Enum):  # noqa: UP042 - its str() is not its value
    ONE = "one"


def update(network: Any, node: Any = "any", *, reason: Any = None) -> None:
    """A task's function."""


def bound(self: Any, network: Any, node: Any = "any") -> None:
    """One that is given its task."""


def starred(*networks: Any) -> None:
    """One that takes any number."""


def loose(network: Any, **more: Any) -> None:
    """One that takes anything."""


def read(*args: Any, names: tuple[str, ...] = ("network",), **kwargs: Any) -> str:
    return Columns(update, names, bound=False).read("update", args, kwargs)


def test_every_way_to_give_an_argument_is_the_same_key() -> None:
    columns = Columns(update, ("node", "network"), bound=False)
    ways: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (("blue", "n1"), {}),
        (("blue",), {"node": "n1"}),
        ((), {"network": "blue", "node": "n1", "reason": "why"}),
    ]
    assert {columns.read("update", *way) for way in ways} == {'["n1","blue"]'}


def test_a_default_is_the_value_it_stands_for() -> None:
    assert read("blue", names=("network", "node")) == read("blue", "any", names=("network", "node"))


def test_all_parameters_are_the_key_where_none_is_named() -> None:
    assert Columns(update, None, bound=False).names == ("network", "node", "reason")
    assert Columns(bound, None, bound=True).names == ("network", "node")
    assert Columns(bound, ("node",), bound=True).read("bound", ("blue", "n1"), {}) == '["n1"]'


def test_what_is_no_column_is_not_read() -> None:
    assert read("blue", object(), reason=1.5) == '["blue"]'


@pytest.mark.parametrize(
    "spellings",
    [
        [UUID, str(UUID), UUID.hex, str(UUID).upper(), UUID.hex.upper()],
        [Colour.BLUE, "blue"],
        [Size.LARGE, "large"],
        [Mixed.ONE, "one"],
        [Level.HIGH, 3],
        [["a", 1], ("a", 1)],
        [{"a": 1, "b": [UUID]}, {"b": (UUID.hex,), "a": 1}],
        [{Mixed.ONE: 1}, {"one": 1}],
    ],
    ids=repr,
)
def test_spellings_of_one_value_are_one_key(spellings: list[Any]) -> None:
    assert len({read(each) for each in spellings}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, "1"),
        (1, True),
        (0, False),
        (0, None),
        (None, "None"),
        (None, "null"),
        ([], None),
        (["a", "b"], [["a", "b"]]),
        (["a", "b"], ["a,b"]),
        ("blue", "Blue"),
        # uuid.UUID would read both of each as the same number.
        ("0x" + "1" * 30, "00" + "1" * 30),
        ("a_b" + "1" * 29, "0ab" + "1" * 29),
        ("1" * 32, "{" + "1" * 31),
        ("0123abcd-4567-89ab-cdef-0123456789a_", "0123abcd-4567-89ab-cdef-00123456789a"),
    ],
    ids=repr,
)
def test_different_values_are_different_keys(one: Any, other: Any) -> None:
    assert read(one) != read(other)


def _kind(value: Any) -> str:
    # Not the repr of an object, which holds its address: processes that share the tests must agree on their names.
    return "object" if type(value) is object else repr(value)


@pytest.mark.parametrize(
    "value",
    ["", "a\0b", 1.5, float("nan"), Decimal(1), b"blue", object(), {"a"}, datetime(2026, 1, 1), [""], {"": 1}, {1: 1}],  # noqa: DTZ001
    ids=_kind,
)
def test_what_could_be_written_in_several_ways_is_refused(value: Any) -> None:
    with pytest.raises(Refused, match="update: argument 'network' cannot be part of a key"):
        read(value)


def test_a_missing_column_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="misses the argument 'network'"):
        read(node="n1")


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (update, ("networks",)),
        (update, ("network", "network")),
        (update, "network"),
        (bound, ("self",)),
        (starred, None),
        (loose, ("network",)),
    ],
)
def test_columns_that_are_no_parameters_are_refused(function: Any, names: Any) -> None:
    with pytest.raises(TypeError, match="its key and lane name its parameters"):
        Columns(function, names, bound=function is bound)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(min_size=1).filter(lambda text: "\0" not in text) | st.uuids(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc", min_size=1), inner),
    max_leaves=8,
)


@given(VALUES, VALUES)
def test_a_key_is_json_that_reads_as_itself_and_two_keys_are_one_only_for_one_value(one: Any, other: Any) -> None:
    key = read(one)
    assert read(json.loads(key)[0]) == key, "a worker, to whom arguments come as JSON, finds the same key"
    if json.loads(key) != json.loads(read(other)):
        assert key != read(other)
