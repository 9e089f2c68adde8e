"""A bounded wait for what another process does, where only the database can tell that it is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")

_PERIOD_S = 0.05


def eventually(look: Callable[[], T], what: str, *, within_s: float) -> T:
    """The first true answer of `look`; fails with `what` and the last answer when there is none in time."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while not (answer := look()):
        if time.monotonic() >= deadline:
            pytest.fail(f"not within {within_s:g} s: {what}; the last look found {answer!r}")
        pause.wait(_PERIOD_S)
    return answer
