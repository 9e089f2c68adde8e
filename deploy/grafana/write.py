"""Writes the dashboards of panels.py as Grafana reads them: `make dashboards`. A test holds the files equal to this."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

from panels import ALL, Dashboard, Panel  # noqa: E402 - beside this file, wherever it is called from

SCHEMA_VERSION: Final = 39  # of Grafana 11; a later one brings it up to date when it reads it
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_ROW: Final = 24
_HEIGHT: Final = {"timeseries": 8, "stat": 5, "table": 5}


def render(dashboard: Dashboard) -> str:
    """The dashboard's file."""
    return json.dumps(_dashboard(dashboard), indent=2) + "\n"


def _dashboard(dashboard: Dashboard) -> dict[str, Any]:
    panels, x, y = [], 0, 0
    for number, panel in enumerate(dashboard.panels, start=1):
        if x + panel.width > _ROW:
            x, y = 0, y + _HEIGHT[dashboard.panels[number - 2].kind]
        panels.append(_panel(number, panel, x, y))
        x += panel.width
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["stoker"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_source(), *(_variable(label, of) for label, of in dashboard.variables.items())]},
        "annotations": {"list": []},
        "links": [{"type": "dashboards", "tags": ["stoker"], "title": "Stoker", "asDropdown": False, "keepTime": True}],
        "panels": panels,
    }


def _panel(number: int, panel: Panel, x: int, y: int) -> dict[str, Any]:
    custom = {"stacking": {"mode": "normal"}, "fillOpacity": 30} if panel.stacked else {}
    made: dict[str, Any] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": _HEIGHT[panel.kind]},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {},
        "targets": [_target(chr(ord("A") + at), panel, *query) for at, query in enumerate(panel.queries.items())],
    }
    return made


def _target(ref: str, panel: Panel, legend: str, query: str) -> dict[str, Any]:
    over_time = panel.kind == "timeseries"
    return {
        "refId": ref,
        "datasource": _SOURCE,
        "expr": query,
        "legendFormat": legend or "__auto",
        "range": over_time,
        "instant": not over_time,
        **({"format": "table"} if panel.kind == "table" else {}),
    }


def _source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}}


def _variable(label: str, metric: str) -> dict[str, Any]:
    query = f"label_values({metric}, {label})"
    return {
        "name": label,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "definition": query,
        "query": {"query": query, "refId": label},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


if __name__ == "__main__":
    for one in ALL:
        (FOLDER / "dashboards" / f"{one.uid}.json").write_text(render(one), encoding="utf-8")
