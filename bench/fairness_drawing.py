"""How long was waited, drawn: a panel for each queue of each situation, in it a curve for each way."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from bench.fairness_app import PRIORITY, ROUND_ROBIN, STOKER
from tasks.cli.output import duration
from tasks.cli.simulation_views import STYLE, Scale

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from scheduler.core.queue_simulation import Outcome

    Played = Mapping[str, Sequence[Outcome]]  # by way, each in the order of the classes

# The last one lies above the others.
_COLOURS: Final = {ROUND_ROBIN: "#2f7fc1", PRIORITY: "#e08a1e", STOKER: "#1a9f5b"}
_ACROSS: Final = 3  # panels beside each other
_WIDTH, _HEIGHT = 290, 150  # of a panel
_LEFT, _TOP, _GAP, _ROW, _BAND = 56, 64, 54, 64, 40
_POINTS: Final = 200  # of a curve


def drawing(situations: Mapping[str, Played], how: str) -> str:
    """An SVG that stands alone. The title of each situation is its key; all panels have one scale of powers of ten."""
    panels = {title: list(_by_queue(played)) for title, played in situations.items()}
    longest_s = max(outcome.waits_s[-1] for of_title in panels.values() for one in of_title for outcome in one.values())
    allowed_s = max(_any(one).allowed_s for of_title in panels.values() for one in of_title)
    scale = Scale(max(longest_s, allowed_s))
    parts = [f"<style>{STYLE}</style>", "<title>How long messages waited</title>", _text(_LEFT, 20, how, "soft")]
    for place, (way, colour) in enumerate(reversed(_COLOURS.items())):
        x = _LEFT + place * 150
        parts += [_line(way, colour, f"M{x},42h22"), _text(x + 28, 46, way)]
    y = _TOP
    for title, of_title in panels.items():
        parts.append(_text(_LEFT, y + 22, title, "name"))
        y += _BAND
        for place, of_ways in enumerate(of_title):
            row, column = divmod(place, _ACROSS)
            parts += _panel(of_ways, scale, _LEFT + column * (_WIDTH + _GAP), y + 24 + row * (_HEIGHT + _ROW))
        y += (len(of_title) + _ACROSS - 1) // _ACROSS * (_HEIGHT + _ROW)
    width = _LEFT + _ACROSS * (_WIDTH + _GAP)
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y + 10}" role="img">\n{body}\n</svg>\n'


def _by_queue(played: Played) -> Iterator[dict[str, Outcome]]:
    """For each queue to which anything came: its outcome by each way."""
    for of_ways in zip(*played.values(), strict=True):
        if of_ways[0].count:
            yield dict(zip(played, of_ways, strict=True))


def _any(of_ways: Mapping[str, Outcome]) -> Outcome:
    return next(iter(of_ways.values()))


def _panel(of_ways: Mapping[str, Outcome], scale: Scale, left: float, top: float) -> Iterator[str]:
    """One queue: axes, its bound, and the curves."""
    kind, bottom = _any(of_ways).kind, top + _HEIGHT

    def x(wait_s: float) -> float:
        return left + scale(wait_s) * _WIDTH

    yield _text(left, top - 8, f"{kind.name}, bound {kind.bound_s:g} s")
    for tick_s in scale.ticks():
        yield f'<path class="grid" d="M{x(tick_s):.1f},{top}V{bottom}"/>'
        yield _text(x(tick_s), bottom + 16, f"{tick_s:g} s", "soft", "middle")
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * _HEIGHT
        yield f'<path class="grid" d="M{left},{y}h{_WIDTH}"/>' + _text(left - 8, y + 4, f"{share:.0%}", "soft", "end")
    yield f'<path class="bound" d="M{x(kind.bound_s):.1f},{top}V{bottom}"/>'
    for way, colour in _COLOURS.items():
        one = of_ways[way]
        shares = [point / _POINTS for point in range(_POINTS + 1)]
        points = [f"{x(one.wait_s(share) or 0.0):.1f},{bottom - share * _HEIGHT:.1f}" for share in shares]
        told = f"{way}: p50 {duration(one.wait_s(0.5))}, p99 {duration(one.wait_s(0.99))}, {one.left} left"
        yield _line(way, colour, f"M{'L'.join(points)}", told)


def _line(way: str, colour: str, path: str, told: str = "") -> str:
    class_ = "curve ours" if way == STOKER else "curve"
    return f'<path class="{class_}" style="stroke:{colour}" d="{path}"><title>{escape(told or way)}</title></path>'


def _text(x: float, y: float, words: str, class_: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{class_}" text-anchor="{anchor}">{escape(words)}</text>'
