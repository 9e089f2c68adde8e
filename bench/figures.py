"""Percentiles, and ratios of interleaved rounds: on a noisy machine a ratio means something where milliseconds do not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure relative to another: the median over the rounds of a run, and how far the rounds lay apart."""

    median: float
    lowest: float
    highest: float
    rounds: int

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
        """Each round's figure by that of the baseline measured beside it; a drift of the machine then hits both."""
        return cls.over(mine / base for mine, base in zip(ours, theirs, strict=True))

    @classmethod
    def over(cls, quotients: Iterable[float]) -> Ratio:
        """The ratio that these rounds came to."""
        seen = sorted(quotients)
        return cls(median(seen), seen[0], seen[-1], len(seen))

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "median": round(self.median, 4),
            "lowest": round(self.lowest, 4),
            "highest": round(self.highest, 4),
            "rounds": self.rounds,
        }

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.lowest:.2f} to {self.highest:.2f})"


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed.

    Raises:
        ValueError: there are no values.
    """
    seen = sorted(values)
    if not seen:
        msg = "a percentile of nothing"
        raise ValueError(msg)
    return seen[max(0, math.ceil(share * len(seen)) - 1)]
