"""The picture of the demo's report in the README: `python docs/pictures/take.py demo-report.html docs/pictures/report.png`.

It needs a Chromium (on Debian: `apt-get install chromium`); name another by CHROMIUM.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.browser import chromium

WIDTH, HEIGHT = 1100, 840  # the part that tells the story: its verdict and its first figures


def take(report: Path, picture: Path, width: int = WIDTH, height: int = HEIGHT) -> None:
    """Show the page without a screen, and keep its upper part."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(report.resolve().as_uri())
        page.screenshot(path=picture)


if __name__ == "__main__":
    take(Path(sys.argv[1]), Path(sys.argv[2]))
