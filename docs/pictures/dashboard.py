"""Draws the panels of the dashboards from a Prometheus that recorded a run: `dashboard.py URL SECONDS FILE [END]`.

No Grafana takes part: each panel of deploy/grafana/panels.py is asked for by Prometheus's API over the SECONDS before END
(now, or a time of Unix), and drawn as SVG on a page, of which Chromium makes the picture (see take.py).
"""

from __future__ import annotations

import html
import json
import math
import re
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "deploy" / "grafana"), str(Path(__file__).parent)]

from panels import OPERATIONS, POOL, QUEUES, Panel  # noqa: E402 - these are scripts, and no package
from take import WIDTH, take  # noqa: E402

RATE: Final = "10s"  # of a run that was scraped each second
POINTS: Final = 240
W: Final = 500  # of one drawing
H: Final = 150
LEFT: Final = 52
COLOURS: Final = (
    "#2f6f9f",
    "#c2682b",
    "#3f8f5f",
    "#9a4f96",
    "#b8a02a",
    "#5f6b76",
    "#c0506a",
    "#4aa3a3",
    "#7d6a4f",
    "#8888cc",
)
LEGENDS: Final = 8
HEIGHT: Final = 1390
SHOWN: Final = (
    *POOL.panels[:6],
    *QUEUES.panels[:2],
    *OPERATIONS.panels[:2],
)
STYLE: Final = """
body { font: 13px/1.4 system-ui, sans-serif; color: #22303a; background: #f3f5f6; margin: 16px; width: 1068px }
h1 { font-size: 18px; margin: 0 } p { margin: 2px 0 12px; color: #5f6b76 }
main { display: grid; grid-template-columns: 1fr 1fr; gap: 12px }
section { background: #fff; border: 1px solid #dde3e6; border-radius: 4px; padding: 10px 12px }
h2 { font-size: 13px; margin: 0 0 4px } text { font-size: 10px; fill: #5f6b76 } .legend { font-size: 11px; color: #44515b }
span { white-space: nowrap } i { display: inline-block; width: 9px; height: 9px; margin: 0 4px 0 10px; border-radius: 2px }
"""


@dataclass
class Series:
    """One line: its legend, and a value at each point of the time axis; nan where there was none."""

    legend: str
    values: list[float]


def asked(url: str, panel: Panel, start: float, end: float) -> list[Series]:
    """The panel's series, as Prometheus has them."""
    step, found = (end - start) / POINTS, []
    for legend, query in panel.queries.items():
        text = re.sub(r"\$(?!__)\w+", ".*", query.replace("$__rate_interval", RATE))
        values = {"query": text, "start": start, "end": end, "step": step}
        with urllib.request.urlopen(f"{url}/api/v1/query_range?{urllib.parse.urlencode(values)}") as answer:  # noqa: S310
            result = json.load(answer)["data"]["result"]
        for one in result:
            line = [math.nan] * (POINTS + 1)
            for at, value in one["values"]:
                line[round((at - start) / step)] = float(value)
            labels = one["metric"]
            found.append(Series(re.sub(r"{{(\w+)}}", lambda name, of=labels: of.get(name[1], ""), legend), line))
    moving = [one for one in found if any(value and not math.isnan(value) for value in one.values)]
    return sorted(moving, key=lambda one: -max(value for value in one.values if not math.isnan(value)))


def drawn(panel: Panel, found: list[Series], seconds: float) -> str:
    """The panel as SVG, with its legend."""
    layers, below = [], [0.0] * (POINTS + 1)
    for one in found:
        line = [0.0 if math.isnan(value) else value for value in one.values] if panel.stacked else one.values
        top = [a + b for a, b in zip(below, line, strict=True)] if panel.stacked else line
        layers.append((one.legend, list(below), top))
        below = top if panel.stacked else below
    most = max((value for _, _, top in layers for value in top if not math.isnan(value)), default=1.0) or 1.0

    def point(at: int, value: float) -> str:
        return f"{LEFT + at * (W - LEFT) / POINTS:.1f},{H - value / most * (H - 12):.1f}"

    marks = []
    for share in (0.0, 0.5, 1.0):
        y = H - share * (H - 12)
        marks.append(f'<line x1="{LEFT}" x2="{W}" y1="{y}" y2="{y}" stroke="#e4e9ec"/>')
        marks.append(f'<text x="{LEFT - 6}" y="{y + 3}" text-anchor="end">{_number(most * share, panel.unit)}</text>')
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, anchor = LEFT + share * (W - LEFT), "end" if share == 1.0 else "start" if share == 0.0 else "middle"
        marks.append(f'<text x="{x}" y="{H + 14}" text-anchor="{anchor}">{share * seconds:.0f} s</text>')
    lines = []
    for number, (_, bottom, top) in enumerate(layers):
        colour = COLOURS[number % len(COLOURS)]
        known = [at for at, value in enumerate(top) if not math.isnan(value)]
        if panel.stacked:
            area = [point(at, top[at]) for at in known] + [point(at, bottom[at]) for at in reversed(known)]
            lines.append(f'<polygon points="{" ".join(area)}" fill="{colour}" fill-opacity="0.55"/>')
        for at, after in zip(known, [*known[1:], -1], strict=True):
            if after == at + 1:
                lines.append(
                    f'<polyline points="{point(at, top[at])} {point(after, top[after])}" stroke="{colour}" stroke-width="1.5"/>'
                )
    names = [
        f'<span><i style="background:{COLOURS[number % len(COLOURS)]}"></i>{html.escape(legend)}</span> '
        for number, (legend, _, _) in enumerate(layers[:LEGENDS])
    ]
    names += [f" and {len(layers) - LEGENDS} more"] if len(layers) > LEGENDS else []
    return (
        f'<section><h2>{html.escape(panel.title)}</h2><svg width="{W}" height="{H + 20}" fill="none">'
        f'{"".join(marks)}{"".join(lines)}</svg><div class="legend">{"".join(names) or "nothing in this run"}</div></section>'
    )


def _number(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.3g} s"
    if unit == "percentunit":
        return f"{value:.0%}"
    return f"{value:.3g}" + ("/s" if unit == "ops" else "")


def main(url: str, seconds: float, picture: Path, end: float) -> None:
    """Ask, draw, and take the picture."""
    sections = [drawn(panel, asked(url, panel, end - seconds, end), seconds) for panel in SHOWN]
    page = (
        f"<!doctype html><meta charset=utf-8><style>{STYLE}</style><h1>Stoker: panels of the dashboards</h1>"
        f"<p>{seconds:.0f} seconds of one run, as Prometheus recorded them, drawn without Grafana.</p>"
        f"<main>{''.join(sections)}</main>"
    )
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "dashboard.html"
        written.write_text(page, encoding="utf-8")
        take(written, picture, WIDTH, HEIGHT)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]) if len(sys.argv) > 4 else time.time())  # noqa: PLR2004 - URL SECONDS FILE END
