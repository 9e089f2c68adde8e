"""The queries of the dashboards, with their variables filled in as Grafana does for "All"."""

from __future__ import annotations

import json
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "grafana"
FILES = sorted((FOLDER / "dashboards").glob("*.json"))
# So that what a test did a few minutes ago is still within.
RATE_INTERVAL = "5m"


def queries() -> list[tuple[str, str, str]]:
    """Dashboard, panel and query, of each target."""
    found = []
    for path in FILES:
        dashboard = json.loads(path.read_text())
        own = [one["name"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                query = target["expr"].replace("$__rate_interval", RATE_INTERVAL)
                for name in own:
                    query = query.replace(f"${name}", ".*")
                assert "$" not in query, f"{dashboard['uid']}, {panel['title']}: {query}"
                found.append((dashboard["uid"], panel["title"], query))
    return found


def metrics(query: str) -> set[str]:
    """The metrics that a query names."""
    return set(re.findall(r"\b(?:stoker_\w+|stoker:[\w:]+|flower_\w+|ALERTS|up|scrape_\w+)\b(?!\()", query))
