"""Percentiles, overlaps and peaks: the arithmetic of the report. Pure."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

Interval = tuple[float, float]


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed; None of no values.

    Nearest rank, so the answer is always something that was measured.
    """
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def quantiles(values: Sequence[float]) -> dict[str, float | int | None]:
    """p50, p99 and the number of values."""
    return {"p50": _rounded(percentile(values, 0.5)), "p99": _rounded(percentile(values, 0.99)), "n": len(values)}


def overlaps(intervals: Iterable[tuple[Hashable, Interval]]) -> int:
    """Neighbouring intervals of one key, in order of their begin, of which the later begins before an earlier one has ended."""
    by_key: dict[Hashable, list[Interval]] = {}
    for key, interval in intervals:
        by_key.setdefault(key, []).append(interval)
    found = 0
    for held in by_key.values():
        latest_end = -math.inf
        for began, ended in sorted(held):
            found += began < latest_end
            latest_end = max(latest_end, ended)
    return found


def peak(intervals: Iterable[tuple[float, float | None]]) -> int:
    """The most intervals open at once; None as an end: still open. One that ends makes room for one that begins then."""
    edges: list[tuple[float, int]] = []
    for began, ended in intervals:
        edges.append((began, 1))
        edges.append((math.inf if ended is None else ended, -1))
    now = most = 0
    for _, step in sorted(edges):
        now += step
        most = max(most, now)
    return most


def steps(values: Sequence[float]) -> list[tuple[float, float]]:
    """The empirical distribution: each distinct value with the share of values that do not exceed it."""
    ordered = sorted(values)
    total = len(ordered)
    last_of = [later != value for value, later in pairwise([*ordered, math.inf])]
    return [(value, (rank + 1) / total) for rank, value in enumerate(ordered) if last_of[rank]]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
