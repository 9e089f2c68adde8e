"""The report of a recording: whole without any other file, true to its figures, and safe whatever the names hold."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.dataset import ensure_dataset
from demo.figures import pool_figures
from demo.judgement import judge
from demo.network.figures import network_figures
from demo.network.judgement import judge_networks
from demo.network.record import Difference
from demo.queries import QUESTIONS, right_answers
from demo.record import Recording
from demo.report import HTML_NAME, JSON_NAME, summary, violations, write_report
from demo.report_page import page
from demo.report_svg import Linear, Log, element, path, text
from demo.words import duration
from tests.demo.network_sample import spoil_operation

VOID = {"meta"}


class Whole(HTMLParser):
    """Fails on an element that is not closed, and collects what refers to anything outside of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.refers: list[str] = []
        self.drawings = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.drawings += tag == "svg"
        self.refers += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "xlink:href"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def written(run: Recording) -> str:
    figures = pool_figures(run)
    networks = network_figures(run.network)
    return page(run, figures, networks, [*judge(figures), *judge_networks(networks)])


def test_the_page_is_whole_and_refers_to_nothing(sample_run: Recording) -> None:
    document = written(sample_run)
    parsed = Whole()
    parsed.feed(document)
    assert parsed.open == []
    assert parsed.refers == []
    assert parsed.drawings == 7
    assert not re.search(r"@import|url\(|<script", document)
    assert "nothing was violated" in document
    assert "&lt;&amp;&gt;" in document, "a fact of the machine is text, not markup"


def test_a_violation_is_the_first_thing_said(sample_run: Recording) -> None:
    sample_run.seen.failures.append("tenant-01: no worker")
    document = written(sample_run)
    assert document.index("something was violated") < document.index("<h1>")
    assert "nothing was violated" not in document


def test_a_lost_update_and_a_failed_operation_are_told_in_words(sample_run: Recording) -> None:
    sample_run.network.differences.append(Difference("net-00", "node1", "ports", "[]", "['if-1']"))
    spoil_operation(sample_run.network, state="failed", error="no bridge")
    told = violations(sample_run)
    assert told["lost_updates"] == ["net-00 on node1: ports should be [], is ['if-1']"]
    assert told["operations"] == ["operation 1, interface.plug of shared-1/shared-1-1, failed: no bridge"]
    assert "something was violated" in written(sample_run)


def test_networks_whose_operations_never_ended_still_have_a_section(sample_run: Recording) -> None:
    network = sample_run.network
    network.operations[:] = [replace(one, state="running", ended_at=None, trail=[]) for one in network.operations]
    network.runs.clear()
    network.seen.wakes.clear()
    assert "something was violated" in written(sample_run)


def test_a_run_without_samples_or_claims_still_has_a_page(sample_run: Recording) -> None:
    sample_run.samples.clear()
    sample_run.history.claims.clear()
    sample_run.history.workers.clear()
    sample_run.seen.holds.clear()
    sample_run.seen.statement_ms.clear()
    assert "no samples" in written(sample_run)


def test_both_files_say_the_same(sample_run: Recording, tmp_path: Path) -> None:
    figures, networks = pool_figures(sample_run), network_figures(sample_run.network)
    checks = [*judge(figures), *judge_networks(networks)]
    document = write_report(tmp_path, sample_run, figures, networks, checks)
    stored = json.loads((tmp_path / JSON_NAME).read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(document))
    assert stored["held"] is True
    required = {
        "tenants", "floor", "demand_peak", "slots_created", "burst_to_slots_s", "reconciles_in_burst", "peak_workers",
        "claims", "double_claims", "cross_tenant", "claim_ms", "ready_to_claimed_ms", "reaped", "left_processes",
    }  # fmt: skip
    assert required <= stored["pool"].keys()
    assert all({"p50", "p99"} <= stored["pool"]["claim_ms"][kind].keys() for kind in ("warm", "waited"))
    required = {
        "driver", "operations", "steps_submitted", "steps_run", "folds", "lost_updates", "wait_ms", "wake_ms",
        "pings_ok", "pings", "incident",
    }  # fmt: skip
    assert required <= stored["network"].keys()
    assert stored["network"]["folds"].keys() == {"on_submit", "in_operation", "at_worker"}
    assert (tmp_path / HTML_NAME).read_text(encoding="utf-8") == page(sample_run, figures, networks, checks)
    assert summary(figures, networks, checks).row_count > len(checks)


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="￾￿")))
def test_an_element_is_well_formed_whatever_it_holds(words: str) -> None:
    drawn = ET.fromstring(element("g", text(1, 2, words), data_name=words, left_out=None))  # noqa: S314 - our own
    assert drawn.attrib == {"data-name": words} or "\n" in words or "\t" in words
    assert (drawn[0].text or "") == words


def test_a_path_goes_through_its_points() -> None:
    assert path([(0, 1), (2.5, 3.125)], "area idle", closed=True) == '<path d="M0,1L2.5,3.12Z" class="area idle"/>'


@given(
    st.floats(min_value=0, max_value=1e4), st.floats(min_value=1, max_value=1e4), st.integers(min_value=2, max_value=12)
)
def test_linear_ticks_lie_within_and_are_not_too_many(low: float, span: float, most: int) -> None:
    scale = Linear(low, low + span, 0, 100)
    ticks = scale.ticks(most)
    assert len(ticks) <= most
    assert all(-1e-3 <= scale(tick) <= 100.001 for tick in ticks)


@given(st.lists(st.floats(min_value=0.01, max_value=1e5), min_size=1))
def test_a_logarithmic_axis_holds_all_its_values(values: list[float]) -> None:
    scale = Log.around(values, 10, 200)
    assert all(10 - 1e-6 <= scale(value) <= 200 + 1e-6 for value in values)
    assert len(scale.ticks()) >= 2


@pytest.mark.parametrize(
    ("value_ms", "said"), [(None, "none"), (0.04, "0.0 ms"), (12.34, "12.3 ms"), (1500.0, "1.50 s")]
)
def test_durations_as_people_read_them(value_ms: float | None, said: str) -> None:
    assert duration(value_ms) == said


def test_every_question_has_an_answer_a_worker_can_send(tmp_path: Path) -> None:
    answers = right_answers(ensure_dataset(tmp_path / "flights.duckdb"))
    assert answers.keys() == {question.sql for question in QUESTIONS}
    assert all(rows and json.loads(json.dumps(rows)) == rows for rows in answers.values())
