"""The picture of the demo's report in the README: `python docs/pictures/take.py demo-report.html docs/pictures/report.png`.

It needs a Chromium (on Debian: `apt-get install chromium`); name another by CHROMIUM.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1100, 840  # the part that tells the story: its verdict and its first figures
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def take(report: Path, picture: Path, width: int = WIDTH, height: int = HEIGHT) -> None:
    """Show the page without a screen, and keep its upper part."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=list(_QUIET)
        )
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(report.resolve().as_uri())
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]), Path(sys.argv[2]))
