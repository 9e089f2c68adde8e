"""Flower's page of tasks, of a new `stoker up` with the default settings: `python docs/pictures/flower.py flower.png`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from config.flower_files import FLOWER_USER, password_file
from config.names import CLAIM_TASK, PLUG_STEP
from tasks.context import Context, current
from tests.support.browser import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Page

WIDTH, HEIGHT = 1640, 960
LOOKS: Final = 20


def load(context: Context) -> None:
    """Two networks with two interfaces each, and three claims."""
    node = next(iter(context.settings.network.nodes))
    made = [context.networks.create("blue", "10.1.0.0/24"), context.networks.create("green", "10.2.0.0/24")]
    made += [context.networks.plug(name, f"web{n}", node)[0] for name in ("blue", "green") for n in (1, 2)]
    for operation in made:
        context.operations.wait(operation.id, 30.0)
    profile = next(iter(context.settings.profiles))
    for tenant in ("acme", "globex", "initech"):
        context.app.send_task(CLAIM_TASK, [tenant, profile], {"wait_s": 30.0}).get(timeout=60.0)


def until_told(page: Page, at: str) -> None:
    """Flower hears of what happened a little later, and the page does not load itself again."""
    page.goto(at, wait_until="networkidle")
    for _ in range(LOOKS):
        if all(page.get_by_text(name).count() for name in (CLAIM_TASK, PLUG_STEP)):
            return
        page.reload(wait_until="networkidle")
    raise SystemExit("expected claims and plugs among the latest tasks, got others; is it a new stack?")


def main(picture: Path) -> None:
    """Make the load, and keep the page that shows it."""
    context = current()
    password = password_file(context.settings.locations).read_text(encoding="ascii").strip()
    load(context)
    with chromium() as browser:
        page = browser.new_page(
            viewport={"width": WIDTH, "height": HEIGHT},
            http_credentials={"username": FLOWER_USER, "password": password},
        )
        until_told(page, f"http://{context.settings.flower.address}:{context.settings.flower.port}/tasks")
        page.screenshot(path=picture)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
