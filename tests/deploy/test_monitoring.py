"""A real Prometheus scrapes a deployment that works: every metric of the page has data there, and every rule is evaluated."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.services import FLOWER_ADDRESS
from tests.support.dashboards import metrics, queries
from tests.support.deployment import Deployment, deployed
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.prometheus import CONFIGURATION, WITHIN_S, Prometheus, scraping
from tests.support.servers import Servers
from tests.support.traffic import DOCUMENT, make_claims, make_folds

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus: Debian's package")

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text()
ROW = re.compile(r"^\| `(stoker_\w+)` \| (counter|gauge|histogram) \|([^|]*)\|", re.MULTILINE)
METRICS = {name: (kind, frozenset(re.findall(r"\w+", labels))) for name, kind, labels in ROW.findall(PAGE)}
ALWAYS = {"__name__", "job", "instance", "le"}


@pytest.fixture(scope="module")
def prometheus(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    ports = {name: free_port(FLOWER_ADDRESS) for name in ("flower", "exporter")}
    document = {**DOCUMENT, **{name: {"port": port} for name, port in ports.items()}}
    targets = {"stoker": f"127.0.0.1:{ports['exporter']}", "flower": f"{FLOWER_ADDRESS}:{ports['flower']}"}
    with (
        deployed(servers, document, without=()) as deployment,
        scraping(tmp_path_factory.mktemp("prometheus"), targets) as made,
    ):
        made.until("stoker_events_listening == 1")
        make_claims(deployment)
        make_folds(deployment, "seen", "10.77.0.0/24")
        # A series of starts begins with its first: what can be a rate is the second.
        made.until("stoker_task_lane_wait_seconds_count > 0")
        make_folds(deployment, "again", "10.78.0.0/24")
        until_seen(made, deployment)
        yield made


def until_seen(prometheus: Prometheus, deployment: Deployment) -> None:
    """What the traffic did last has been scraped."""
    (held,) = deployment.db.rows("select count(*) as many from every_claim where activated_at is not null")
    prometheus.until(f'sum(stoker_claims_total{{outcome="held"}}) >= {held["many"]}')
    prometheus.until('sum(stoker_folds_total{where="on_submit"}) > 0')
    prometheus.until('stoker_spawn_seconds_count{outcome="failed"} > 0')


def test_every_metric_of_the_page_has_data_under_the_type_and_labels_that_it_says(prometheus: Prometheus) -> None:
    assert METRICS
    types = {name: facts[0]["type"] for name, facts in prometheus.ask("metadata").items()}
    for name, (kind, labels) in METRICS.items():
        # One scrape that came too late for Prometheus has left a gap.
        series = prometheus.until(f"{name}_bucket" if kind == "histogram" else name)
        assert {frozenset(one["metric"].keys() - ALWAYS) for one in series} == {labels}, name
        assert types.get(name, types.get(name.removesuffix("_total"))) == kind, name


def test_every_metric_of_the_exporter_is_on_the_page(prometheus: Prometheus) -> None:
    series = prometheus.ask("series", **{"match[]": '{job="stoker",__name__=~"stoker_.*"}'})
    exported = {re.sub(r"_(bucket|count|sum)$", "", one["__name__"]) for one in series}
    assert exported == set(METRICS)


def test_what_the_traffic_did_is_what_prometheus_tells(prometheus: Prometheus) -> None:
    wanted = {
        ("held", "warm"),
        ("held", "hot_idle"),
        ("held", "waited"),
        ("miss", "no_warm"),
        ("miss", "tenant_cap"),
        ("miss", "draining"),
    }

    def claims() -> set[tuple[str, ...]]:
        found = prometheus.query("stoker_claims_total > 0")
        return {tuple(one["metric"][label] for label in ("outcome", "reason")) for one in found}

    eventually(lambda: claims() >= wanted, f"claims of each of {wanted}", within_s=WITHIN_S)
    assert prometheus.until('stoker_spawn_seconds_count{outcome="failed"} > 0')
    assert prometheus.until("sum(stoker_folds_missed_total) == 0"), "what could fold did"
    assert prometheus.until("sum(stoker_step_requests_total) > sum(stoker_step_runs_total)")


def test_flower_is_scraped_as_well(prometheus: Prometheus) -> None:
    assert prometheus.until('flower_events_total{job="flower"} > 0')


def test_every_rule_is_loaded_and_evaluated(prometheus: Prometheus) -> None:
    written = "".join(path.read_text() for path in (CONFIGURATION / "rules").glob("*.yml"))
    names = set(re.findall(r"^ +- (?:alert|record): (\S+)", written, re.MULTILINE))
    assert names

    def evaluated() -> bool:
        rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        assert [rule["lastError"] for rule in rules if rule.get("lastError")] == []
        return {rule["name"] for rule in rules if rule["health"] == "ok"} == names

    eventually(evaluated, f"{sorted(names)} are evaluated", within_s=WITHIN_S)


def test_what_went_wrong_is_an_alert_to_be_and_nothing_else_stays_one(prometheus: Prometheus) -> None:
    """A spawn failed. Alerts wait for minutes before they fire; that one does is promtool's to show."""
    expected = {"StokerSpawnsFail"}

    def alerts() -> set[str]:
        return {one["metric"]["alertname"] for one in prometheus.query("ALERTS")}

    eventually(lambda: alerts() == expected, f"{expected} alone", within_s=WITHIN_S)


@pytest.mark.parametrize(("dashboard", "panel", "query"), queries())
def test_each_query_of_the_dashboards_has_data(prometheus: Prometheus, dashboard: str, panel: str, query: str) -> None:
    for metric in metrics(query):
        prometheus.until(f"count({metric})")

    def numbers() -> list[float]:
        # A quantile of what has not been scraped twice is no number yet.
        return [value for one in prometheus.query(query) if not math.isnan(value := float(one["value"][1]))]

    eventually(numbers, f"{panel} of {dashboard} shows numbers: {query}", within_s=WITHIN_S)
