"""What a simulation of the queues came to: a table and bars for terminals, a drawing, data. Outcomes in; asks nobody."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tasks.cli.output import duration, plain_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from scheduler.core.queue_simulation import Outcome

    Outcomes = Mapping[str, Sequence[Outcome]]  # by policy, each in the order of the classes

_SHARES: Final = {"p50_s": 0.5, "p99_s": 0.99, "max_s": 1.0}
_LEAST_S: Final = 0.001  # where the scales begin: less is as good as none
_FINE_S, _COARSE_S = 0.1, 10.0  # between these, hundredths of a second are told
_POINTS: Final = 200  # of a curve
_BAR_LEAST: Final = 8
_COLOURS: Final = ("#8a94a1", "#e08a1e", "#a58bd6", "#2f7fc1", "#1a9f5b")  # of the policies, in their order


def data(outcomes: Outcomes) -> list[dict[str, Any]]:
    """Everything, for programs. Waits are in seconds; of what was left, until the end."""
    return [
        {"policy": policy, "queues": [_row(outcome) for outcome in of_classes]}
        for policy, of_classes in outcomes.items()
    ]


def _row(outcome: Outcome) -> dict[str, Any]:
    return {
        "queue": outcome.kind.name,
        "bound_s": outcome.kind.bound_s,
        "reserve": outcome.kind.reserve,
        "allowed_s": outcome.allowed_s,
        "count": outcome.count,
        "served": outcome.served,
        "left": outcome.left,
        "reserved": outcome.reserved,
        "violations": outcome.violations,
        **{name: outcome.wait_s(share) for name, share in _SHARES.items()},
    }


def table(what: str, how: str, outcomes: Outcomes) -> RenderableType:
    """A row for each queue and policy: what waited longer than it may is red."""
    made = plain_table(f"{what}\n{how}")
    made.add_column("waits in s", no_wrap=True)
    for column in ("p50", "p99", "max", "bound", "late", "left", "by reserve"):
        made.add_column(column, justify="right")
    for of_policies in _by_queue(outcomes):
        made.add_row(Text(of_policies[0][1].kind.name, style="bold"))
        for policy, outcome in of_policies:
            made.add_row(
                f" {policy}",
                *(_waited(outcome, share) for share in _SHARES.values()),
                f"{outcome.kind.bound_s:g}",
                Text(f"{outcome.violations:.1%}", style="red" if outcome.violations else "green"),
                Text(str(outcome.left), style="" if outcome.left else "dim"),
                Text(str(outcome.reserved), style="" if outcome.reserved else "dim"),
            )
    note = "late: longer than the bound and the work in hand; what is left has waited until the end, at least"
    return Group(made, Text(note, style="dim"))


def _waited(outcome: Outcome, share: float) -> Text:
    """To three figures or so, so that columns stay narrow."""
    wait_s = outcome.wait_s(share) or 0.0
    places = 3 if wait_s < _FINE_S else 2 if wait_s < _COARSE_S else 1
    return Text(f"{wait_s:.{places}f}", style="red" if wait_s > outcome.allowed_s else "")


def _by_queue(outcomes: Outcomes) -> Iterator[list[tuple[str, Outcome]]]:
    """For each queue to which anything came: its outcome under each policy."""
    for of_policies in zip(*outcomes.values(), strict=True):
        if of_policies[0].count:
            yield list(zip(outcomes, of_policies, strict=True))


@dataclass(frozen=True, slots=True)
class Scale:
    """Waits onto 0 to 1, each factor of ten as wide as the next."""

    most_s: float

    def __call__(self, wait_s: float) -> float:
        """Where a wait stands; the shortest all at 0."""
        return math.log(max(wait_s, _LEAST_S) / _LEAST_S) / math.log(self.most_s / _LEAST_S)

    def ticks(self) -> list[float]:
        """The powers of ten within."""
        return [_LEAST_S * 10**power for power in range(math.floor(math.log10(self.most_s / _LEAST_S)) + 1)]

    @classmethod
    def of(cls, outcomes: Outcomes) -> Scale:
        """One for all: to the longest wait, or the longest that is allowed."""
        all_s = [_LEAST_S * 10]
        for of_policies in _by_queue(outcomes):
            all_s += [max(outcome.waits_s[-1], outcome.allowed_s) for _, outcome in of_policies]
        return cls(max(all_s))


class Bar:
    """A wait on a scale as wide as there is room, with a mark at what is allowed."""

    def __init__(self, wait_s: float, allowed_s: float, scale: Scale) -> None:
        self._filled, self._mark = scale(wait_s), scale(allowed_s)
        self._style = "red" if wait_s > allowed_s else "green"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        block, mark = ("#", "|") if options.ascii_only else ("█", "│")
        filled = max(1, round(self._filled * width))
        at = min(width - 1, int(self._mark * width))
        yield Text.assemble(
            *(
                (mark, "bold") if cell == at else (block if cell < filled else " ", self._style)
                for cell in range(width)
            ),
            no_wrap=True,
        )

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(_BAR_LEAST, options.max_width), options.max_width)


def bars(outcomes: Outcomes) -> RenderableType:
    """How long 99 of 100 messages waited at most, a bar for each queue and policy on one scale of powers of ten."""
    scale = Scale.of(outcomes)
    made = Table.grid(padding=(0, 1), expand=True)
    made.add_column(no_wrap=True)
    made.add_column(ratio=1)
    made.add_column(no_wrap=True, justify="right")
    for of_policies in _by_queue(outcomes):
        made.add_row(Text(of_policies[0][1].kind.name, style="bold"))
        for policy, outcome in of_policies:
            wait_s = outcome.wait_s(_SHARES["p99_s"]) or 0.0
            made.add_row(f" {policy}", Bar(wait_s, outcome.allowed_s, scale), duration(wait_s))
    ends = f"p99 from {duration(_LEAST_S)} to {duration(scale.most_s)}, each factor of ten as wide; the mark: allowed"
    return Group(Text(ends, style="dim"), made)


STYLE: Final = """
svg { color-scheme: light dark; --paper: #fff; --ink: #1d2530; --soft: #5c6878; --rule: #e3e7ec; background: var(--paper) }
@media (prefers-color-scheme: dark) {
  svg { --paper: #12161c; --ink: #e6eaf0; --soft: #9aa6b5; --rule: #2a323d }
}
text { font: 13px system-ui, sans-serif; fill: var(--ink) }
.soft { fill: var(--soft); font-size: 12px }
.name { font-weight: 600 }
.grid { stroke: var(--rule) }
.bound { stroke: var(--ink); stroke-dasharray: 5 4 }
.curve { fill: none; stroke-width: 1.8; stroke-linejoin: round }
.ours { stroke-width: 3.2 }
"""
_WIDTH: Final = 920
_PANEL: Final = 200
_LEFT, _RIGHT, _TOP, _GAP = 60, 24, 98, 56


def drawing(what: str, how: str, outcomes: Outcomes) -> str:
    """An SVG that stands alone: for each queue the share of its messages that waited at most so long, a curve for a policy."""
    scale = Scale.of(outcomes)
    panels = list(_by_queue(outcomes))
    height = _TOP + len(panels) * (_PANEL + _GAP)
    parts = [
        f"<style>{STYLE}</style>",
        f"<title>{escape(what)}</title>",
        _text(_LEFT, 24, what, "name"),
        _text(_LEFT, 44, how, "soft"),
        *_legend(outcomes),
    ]
    for place, of_policies in enumerate(panels):
        parts += _panel(of_policies, scale, _TOP + place * (_PANEL + _GAP) + 20)
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" font-size="13">\n{body}\n</svg>\n'


def _legend(outcomes: Outcomes) -> Iterator[str]:
    for place, (policy, colour) in enumerate(zip(outcomes, _COLOURS, strict=True)):
        x = _LEFT + place * 165
        yield f'<path class="curve ours" style="stroke:{colour}" d="M{x},68h22"/>' + _text(x + 28, 72, policy)


def _panel(of_policies: list[tuple[str, Outcome]], scale: Scale, top: float) -> Iterator[str]:
    """One queue: axes, its bound, and the curves, ours above the others."""
    bottom, outcome = top + _PANEL, of_policies[0][1]

    def x(wait_s: float) -> float:
        return _LEFT + scale(wait_s) * (_WIDTH - _LEFT - _RIGHT)

    yield _text(_LEFT, top - 8, f"{outcome.kind.name}, bound {outcome.kind.bound_s:g} s", "name")
    for tick_s in scale.ticks():
        yield f'<path class="grid" d="M{x(tick_s):.1f},{top}V{bottom}"/>'
        yield _text(x(tick_s), bottom + 16, f"{tick_s:g} s", "soft", "middle")
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * _PANEL
        yield f'<path class="grid" d="M{_LEFT},{y}H{_WIDTH - _RIGHT}"/>' + _text(
            _LEFT - 8, y + 4, f"{share:.0%}", "soft", "end"
        )
    yield f'<path class="bound" d="M{x(outcome.kind.bound_s):.1f},{top}V{bottom}"/>'
    for (policy, one), colour in zip(of_policies, _COLOURS, strict=True):
        points = [f"{x(wait_s):.1f},{bottom - share * _PANEL:.1f}" for wait_s, share in _curve(one)]
        class_ = "curve ours" if policy == "reserve" else "curve"
        told = f"{policy}: p50 {duration(one.wait_s(0.5))}, p99 {duration(one.wait_s(0.99))}, {one.left} left"
        yield f'<path class="{class_}" style="stroke:{colour}" d="M{"L".join(points)}"><title>{escape(told)}</title></path>'


def _curve(outcome: Outcome) -> Iterator[tuple[float, float]]:
    """Waits, and the share of the messages that waited no longer."""
    for point in range(_POINTS + 1):
        share = point / _POINTS
        yield outcome.wait_s(share) or 0.0, share


def _text(x: float, y: float, words: str, class_: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{class_}" text-anchor="{anchor}">{escape(words)}</text>'
