"""`stoker simulate queues`: the same work under every policy, as table, bars, drawing and data, and no nonsense accepted."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console, RenderableType
from typer.testing import CliRunner

from config.settings import load
from scheduler.core.queue_simulation import POLICIES, Message, Outcome, simulate
from scheduler.core.queues import QueueClass
from scheduler.errors import Refused
from tasks.cli import simulation_views
from tasks.cli.simulate import SCENARIOS, Setup, app, classes_of

CLASSES = (QueueClass("user_waiting", 1.0), QueueClass("spawn", 5.0, 0.25), QueueClass("background", 30.0, 0.1))
SVG = "{http://www.w3.org/2000/svg}"
BRIEF = ("--duration", "12", "--service-ms", "50")


def run(*arguments: str) -> str:
    """What the command prints; its refusal is raised."""
    ended = CliRunner().invoke(app, ["queues", *arguments], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.output


def answer(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json"))
    return found


def of(found: dict[str, Any], policy: str) -> dict[str, dict[str, Any]]:
    return next({row["queue"]: row for row in one["queues"]} for one in found["policies"] if one["policy"] == policy)


def setup(scenario: str, seed: int = 1) -> Setup:
    return Setup(seed, duration_s=60.0, servers=2, service_s=0.02, load=SCENARIOS[scenario].load)


def messages(scenario: str, seed: int = 1) -> list[Message]:
    return list(SCENARIOS[scenario].messages(classes_of(load()), setup(scenario, seed)))


def starved() -> dict[str, list[Outcome]]:
    """An overload above a trickle, and one queue to which nothing comes."""
    came = [Message("user_waiting", 0.0, 0.1)] * 400 + [Message("spawn", float(second), 0.1) for second in range(20)]
    came.sort(key=lambda message: message.at_s)
    return {name: simulate(CLASSES, came, policy, servers=1, until_s=20.0) for name, policy in POLICIES.items()}


def printed(renderable: RenderableType, width: int = 100, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    Console(file=file, width=width).print(renderable, highlight=False)
    file.flush()
    return raw.getvalue().decode(encoding)


def test_the_classes_are_those_of_the_settings_the_best_first() -> None:
    settings = load()
    classes = classes_of(settings)
    assert {kind.name for kind in classes} == set(settings.queues)
    assert [settings.queues[kind.name].rank for kind in classes] == sorted(q.rank for q in settings.queues.values())
    for kind in classes:
        assert (kind.bound_s, kind.reserve) == (settings.queues[kind.name].bound_s, settings.queues[kind.name].reserve)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_work_comes_in_order_and_within_the_time(scenario: str) -> None:
    times = [message.at_s for message in messages(scenario)]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] < 60.0


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_same_seed_is_the_same_work_and_another_is_other(scenario: str) -> None:
    assert messages(scenario) == messages(scenario)
    assert messages(scenario, seed=2) != messages(scenario)


def test_as_much_comes_as_the_load_says() -> None:
    capacity = 60.0 * setup("zipf").capacity
    count = {scenario: len(messages(scenario)) / capacity for scenario in SCENARIOS}
    assert count == pytest.approx({"flood": 1.0 + 0.5, "overload": 1.2 + 0.1, "zipf": 0.95}, rel=0.05)


def test_of_all_queues_the_least_urgent_is_the_busiest() -> None:
    kinds = [message.kind for message in messages("zipf")]
    counts = [kinds.count(kind.name) for kind in reversed(classes_of(load()))]
    assert counts == sorted(counts, reverse=True)
    assert [counts[0] / count for count in counts] == pytest.approx(range(1, len(counts) + 1), rel=0.2)


def test_a_flood_passes_under_some_policies_and_not_under_ours() -> None:
    found = answer("--scenario", "flood")
    assert [one["policy"] for one in found["policies"]] == list(POLICIES)
    p50_s = {policy: of(found, policy)["user_waiting"]["p50_s"] for policy in POLICIES}
    assert p50_s["reserve"] < 2 * p50_s["strict"] < 0.05
    assert min(p50_s["oldest_first"], p50_s["earliest_deadline"]) > 500 * p50_s["reserve"]


def test_below_an_overload_the_trickles_are_served_in_time() -> None:
    found = answer("--scenario", "overload")
    for queue in ("spawn", "background"):
        ours = of(found, "reserve")[queue]
        assert ours["violations"] == 0
        assert ours["bound_s"] < ours["max_s"] <= ours["allowed_s"]
        assert of(found, "strict")[queue]["left"] > 0.9 * ours["count"]


def test_json_says_what_was_asked_and_all_that_came_of_it() -> None:
    found = answer("--scenario", "zipf", "--seed", "7", "--load", "0.5", "--servers", "3", *BRIEF)
    asked = {"scenario": "zipf", "seed": 7, "duration_s": 12.0, "servers": 3, "service_ms": 50.0, "load": 0.5}
    assert asked.items() <= found.items()
    for one in found["policies"]:
        assert sum(row["count"] for row in one["queues"]) == found["messages"]
        assert all(row["served"] + row["left"] == row["count"] for row in one["queues"])


def test_people_see_a_table_and_bars() -> None:
    text = run("--scenario", "overload", *BRIEF)
    assert "overload: more requests than can be served" in " ".join(text.split())
    for policy in POLICIES:
        assert text.count(f" {policy} ") >= 6, "in the table and in the bars, for each of three queues"


def test_what_was_drawn_is_an_svg_that_stands_alone(tmp_path: Path) -> None:
    file = tmp_path / "queues.svg"
    assert str(file) in run("--svg", str(file), *BRIEF).replace("\n", "")
    text = file.read_text(encoding="utf-8")
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    drawn = ET.fromstring(text)  # noqa: S314 - written a moment ago
    curves = [path for path in drawn.iter(f"{SVG}path") if path.find(f"{SVG}title") is not None]
    assert len(curves) == 2 * len(POLICIES), "for each queue to which something came"
    for curve in curves:
        points = [tuple(map(float, point.split(","))) for point in curve.attrib["d"][1:].split("L")]
        assert points == sorted(points, key=lambda point: (point[0], -point[1])), "a share never falls"


def test_what_waited_too_long_is_red_and_past_its_mark() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="standard")
    console.print(simulation_views.bars(starved()))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    spawn = lines[next(number for number, line in enumerate(lines) if "spawn" in line) + 1 :]
    strict = next(line for line in spawn if "strict" in line)
    reserve = next(line for line in spawn if "reserve" in line)
    assert "\x1b[31m" in strict
    assert "\x1b[31m" not in reserve
    assert strict.count("█") > reserve.count("█") > 0


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_terminal_is_too_narrow(width: int) -> None:
    for view in (simulation_views.table("what", "how", starved()), simulation_views.bars(starved())):
        text = printed(view, width)
        assert max(map(len, text.splitlines())) <= width
        assert "earliest_deadline" in text
        assert "background" not in text, "nothing came to it"


def test_a_terminal_of_ascii_is_shown_ascii() -> None:
    assert "#" in printed(simulation_views.bars(starved()), 80, "ascii")
    assert "oldest_first" in printed(simulation_views.table("what", "how", starved()), 80, "ascii")


def test_where_nothing_came_nothing_is_shown() -> None:
    assert answer("--scenario", "zipf", "--duration", "0.000001")["messages"] == 0
    assert "strict" not in run("--scenario", "zipf", "--duration", "0.000001")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--scenario", "flod"), "did you mean 'flood'?"),
        (("--scenario", "qqq"), "stoker simulate queues --help"),
        (("--servers", "0"), "as many as tasks may run at once"),
        (("--servers", "10001"), "expected 1 to 10000"),
        (("--duration", "-1"), "got -1"),
        (("--duration", "nan"), "got nan"),
        (("--duration", "inf"), "got inf"),
        (("--service-ms", "0"), "--service-ms 10"),
        (("--load", "0"), "0.5 for half"),
        (("--load", "-0.5"), "got -0.5"),
        (("--service-ms", "0.000001"), "lower --duration, --servers or --load, or raise --service-ms"),
        (("--svg", "/no/such/place/queues.svg", *BRIEF), "name another place"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_remedy(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(Refused) as refused:
        run(*arguments)
    assert said in str(refused.value)
