"""SVG as text: elements with escaped attributes, and the scales that turn values into places. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Point = tuple[float, float]


def element(tag: str, *children: str, **attributes: str | float | None) -> str:
    """One element. Names lose a trailing underscore and write dashes for others (`class_`, `stroke_width`); None is left out.

    Children are markup already: text goes through `text`.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return f"<{tag}{written}>{''.join(children)}</{tag}>" if children else f"<{tag}{written}/>"


def text(x: float, y: float, words: str, class_: str = "label", anchor: str = "start") -> str:
    """Words at a place; `anchor` is start, middle or end."""
    return element("text", escape(words), x=x, y=y, class_=class_, text_anchor=anchor)


def title(words: str) -> str:
    """What a pointer that rests on the parent element is told."""
    return element("title", escape(words))


def line(start: Point, end: Point, class_: str) -> str:
    """A straight line."""
    return element("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], class_=class_)


def path(points: Sequence[Point], class_: str, *, closed: bool = False, told: str = "") -> str:
    """A line through the points; closed, an area."""
    drawn = "M" + "L".join(f"{_value(x)},{_value(y)}" for x, y in points) + ("Z" if closed else "")
    return element("path", *([title(told)] if told else []), d=drawn, class_=class_)


def drawing(width: int, height: int, parts: Iterable[str], name: str) -> str:
    """A whole picture that scales with its place; `name` says what it shows to who cannot see it."""
    return element(
        "svg", *parts, viewBox=f"0 0 {width} {height}", role="img", aria_label=name, xmlns="http://www.w3.org/2000/svg"
    )


@dataclass(frozen=True, slots=True)
class Linear:
    """Values from `low` to `high` onto places from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of a value."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        """Round values within, at most so many and evenly spaced."""
        step = _round_step((self.high - self.low) / max(1, most - 1))
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class Log:
    """Positive values from `low` to `high` onto places, each factor of ten as wide as the next."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of a value; one below `low` stands at its edge."""
        share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """The powers of ten within."""
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        return [10.0**n for n in range(first, last + 1)]

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float) -> Log:
        """Whole powers of ten around the values; 1 to 10 when there are none."""
        low = math.floor(math.log10(min(values, default=1.0)))
        high = math.ceil(math.log10(max(values, default=10.0)))
        return cls(10.0**low, 10.0 ** max(high, low + 1), start, end)


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, ... times a power of ten that is no less."""
    power = 10.0 ** math.floor(math.log10(least)) if least > 0 else 1.0
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least - 1e-12)


def _value(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
