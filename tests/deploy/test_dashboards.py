"""Dashboards are what panels.py says, in the form that Grafana reads, each panel in its place."""

from __future__ import annotations

import itertools
import json
import runpy
from typing import Any

import jsonschema
import pytest
import yaml

from tests.support.dashboards import FILES, FOLDER, queries

# Of Grafana 11, schema version 39: what a dashboard must have for its panels to be drawn.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["uid", "title", "schemaVersion", "panels", "templating", "time", "refresh"],
    "properties": {
        "uid": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,40}$"},
        "schemaVersion": {"const": 39},
        "refresh": {"type": "string"},
        "time": {"type": "object", "required": ["from", "to"]},
        "templating": {
            "type": "object",
            "properties": {
                "list": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name", "type", "query"],
                        "properties": {"type": {"enum": ["query", "datasource"]}, "refresh": {"enum": [0, 1, 2]}},
                    },
                }
            },
        },
        "panels": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["id", "type", "title", "description", "gridPos", "targets", "datasource", "fieldConfig"],
                "properties": {
                    "id": {"type": "integer", "minimum": 1},
                    "type": {"enum": ["timeseries", "stat", "table"]},
                    "gridPos": {
                        "type": "object",
                        "required": ["x", "y", "w", "h"],
                        "properties": {"x": {"minimum": 0, "maximum": 23}, "w": {"minimum": 1, "maximum": 24}},
                    },
                    "fieldConfig": {"type": "object", "required": ["defaults", "overrides"]},
                    "datasource": {"type": "object", "required": ["type", "uid"]},
                    "targets": {
                        "type": "array",
                        "minItems": 1,
                        "items": {"type": "object", "required": ["refId", "expr", "legendFormat", "datasource"]},
                    },
                },
            },
        },
    },
}


def of(path: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_the_files_are_what_the_panels_say() -> None:
    written = runpy.run_path(str(FOLDER / "write.py"))
    assert {path.name: path.read_text() for path in FILES} == {
        f"{one.uid}.json": written["render"](one) for one in written["ALL"]
    }, "run `make dashboards`"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_has_the_form_that_grafana_reads(path: Any) -> None:
    jsonschema.validate(of(path), SCHEMA)
    ids = [panel["id"] for panel in of(path)["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in of(path)["panels"]:
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)


def test_uids_and_titles_are_each_one_dashboards() -> None:
    for what in ("uid", "title"):
        assert len({of(path)[what] for path in FILES}) == len(FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_panel_lies_over_another_or_beyond_the_edge(path: Any) -> None:
    places = [panel["gridPos"] for panel in of(path)["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for a, b in itertools.combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, (a, b)


def test_no_variable_is_used_that_its_dashboard_does_not_have() -> None:
    assert queries(), "each is filled in, or this fails"


def test_grafana_is_told_where_its_data_and_its_dashboards_are() -> None:
    source = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    provider = yaml.safe_load((FOLDER / "provisioning/dashboards/stoker.yml").read_text())["providers"]
    assert [(one["type"], one["url"], one["isDefault"]) for one in source] == [("prometheus", "$PROMETHEUS_URL", True)]
    assert [(one["type"], one["options"]["path"]) for one in provider] == [("file", "/var/lib/grafana/dashboards")]
