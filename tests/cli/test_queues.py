"""What `stoker queues` shows of what it saw, and how it reads a bound and a share."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from config.settings import Settings
from scheduler.errors import Refused
from scheduler.redis.queues.counts import QueueCounts, Sample
from scheduler.store.queues import Policy
from tasks.cli import queue_views as views
from tests.support import profiles

NOTHING = QueueCounts()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return profiles.settings_of(profiles.write(tmp_path_factory.mktemp("queues") / "stoker.toml", {}))


def sample(settings: Settings, at_s: float, **seen: QueueCounts) -> Sample:
    known = {name.replace("@", "_"): name for name in settings.all_queues}
    return Sample(at_s, dict.fromkeys(settings.all_queues, NOTHING) | {known[name]: one for name, one in seen.items()})


def look(
    settings: Settings, after: Sample, before: Sample | None = None, *policies: Policy, **workers: Any
) -> views.Look:
    return views.Look(before or sample(settings, after.at_s - 2), after, policies, workers)


def rows(look: views.Look, settings: Settings, *, totals: bool = True) -> Mapping[str, Mapping[str, Any]]:
    return {row["queue"]: row for row in look.rows(settings, totals=totals)}


def printed(look: views.Look, settings: Settings) -> str:
    console = Console(file=io.StringIO(), width=120, record=True)
    console.print(views.table(look.rows(settings, totals=True)))
    return console.export_text()


def test_the_queues_of_nodes_stand_below_their_class(settings: Settings) -> None:
    found = rows(look(settings, sample(settings, 9)), settings)
    assert list(found) == [
        "control",
        "user_waiting",
        "user_waiting@node1",
        "user_facing",
        "user_facing@node1",
        "spawn",
        "background",
        "background@node1",
    ]
    assert found["background@node1"]["class"] == "background"
    assert found["background@node1"]["bound_s"] == 30.0


def test_what_is_taken_is_counted_by_the_time_between_the_looks(settings: Settings) -> None:
    before = sample(settings, 10, spawn=QueueCounts(taken=100, late=4))
    after = sample(settings, 12, spawn=QueueCounts(3, 1.5, taken=150, late=5))
    row = rows(look(settings, after, before), settings)["spawn"]
    assert (row["taken_per_s"], row["waiting"], row["oldest_s"], row["late"]) == (25.0, 3, 1.5, 5)


def test_after_a_flush_nothing_is_less_than_none(settings: Settings) -> None:
    before = sample(settings, 10, spawn=QueueCounts(taken=100, reserved=9))
    row = rows(look(settings, sample(settings, 11, spawn=NOTHING), before), settings, totals=False)["spawn"]
    assert (row["taken_per_s"], row["reserve_used"]) == (0.0, None)


def test_a_reserve_is_used_by_all_queues_of_its_class(settings: Settings) -> None:
    before = sample(settings, 10, user_waiting=QueueCounts(taken=1000))
    after = sample(
        settings,
        11,
        user_waiting=QueueCounts(taken=1080),
        background=QueueCounts(taken=15, reserved=5),
        background_node1=QueueCounts(taken=5, reserved=5),
    )
    seen = look(settings, after, before)
    since, ever = (rows(seen, settings, totals=totals) for totals in (False, True))
    assert (since["background"]["reserve_used"], since["background@node1"]["reserve_used"]) == (0.10, 0.05)
    assert ever["background"]["reserve_used"] == pytest.approx(10 / 1100)
    assert since["spawn"]["reserve_used"] == 0


def test_what_an_operator_changed_is_marked_and_says_who(settings: Settings) -> None:
    changed = Policy("background", 4, 30.0, 0.1, override_bound_s=10.0, changed_by="alice@desk")
    seen = look(settings, sample(settings, 9), None, changed)
    row = rows(seen, settings)["background"]
    assert (row["bound_s"], row["reserve"]) == (10.0, 0.1)
    assert row["changed"] == {"bound_s": 10.0, "reserve": None, "by": "alice@desk"}
    assert rows(seen, settings)["spawn"]["changed"] is None
    shown = printed(seen, settings)
    assert "10.00 s*" in shown
    assert "10 %*" not in shown
    assert shown.count("* background was changed by alice@desk: stoker queues history") == 1


def test_a_queue_that_nobody_serves_is_told(settings: Settings) -> None:
    workers: dict[str, Any] = {"spawn@a": ["spawn", "background"], "spawn@b": ["spawn"]}
    seen = look(settings, sample(settings, 9, spawn=QueueCounts(1, None)), None, **workers)
    found = rows(seen, settings)
    assert found["spawn"]["workers"] == ["spawn@a", "spawn@b"]
    assert found["control"]["workers"] == []
    lines = {line.split()[0]: line for line in printed(seen, settings).splitlines() if line.strip()}
    assert lines["control"].split()[-1] == "nobody"
    assert "spawn x2" in lines["spawn"]
    assert lines["spawn"].split()[1:3] == ["1", "-"]  # no stamp, no age


def test_the_policies_of_the_settings_hold_where_sql_has_none(settings: Settings) -> None:
    none = rows(look(settings, sample(settings, 9)), settings)
    known = [Policy(name, one.rank, one.bound_s, one.reserve) for name, one in settings.queues.items()]
    gone = replace(known[0], name="gone", rank=9)
    assert rows(look(settings, sample(settings, 9), None, *known, gone), settings) == none


@pytest.mark.parametrize(
    ("text", "bound_s"),
    [("500ms", 0.5), ("10s", 10.0), ("2min", 120.0), ("1.5 s", 1.5), (" 1h ", 3600.0), ("1ms", 0.001)],
)
def test_a_bound(text: str, bound_s: float) -> None:
    assert views.seconds(text) == bound_s


@pytest.mark.parametrize(
    "text", ["", "10", "s", "-1s", "1e3s", "nan s", "ten s", "10 days", "1s2", "\u0661s", "9" * 400 + "s"]
)
def test_what_is_no_bound(text: str) -> None:
    with pytest.raises(Refused, match="write it like 500ms, 10s or 2min"):
        views.seconds(text)


@pytest.mark.parametrize(
    ("text", "share"), [("0.2", 0.2), ("20%", 0.2), (".5", 0.5), ("0", 0.0), ("7 %", 0.07), ("100%", 1)]
)
def test_a_share(text: str, share: float) -> None:
    assert views.share(text) == share


@pytest.mark.parametrize("text", ["", "%", "-0.1", "inf", "1e-3", "a fifth", "0,2", "20%%", "0x1"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(Refused, match=r"write it like 0\.2 or 20%"):
        views.share(text)


def test_a_policy_in_words() -> None:
    policy = {"bound_s": 0.25, "reserve": 0.125}
    assert (views.words(policy), views.words(None)) == ("250 ms, 12.5 %", "-")


def test_this_file_reads_the_table_by_its_columns(tmp_path: Path) -> None:
    # A class of the operator's own has its row where its rank puts it.
    own = {"rank": 5, "bound_s": 60.0, "reserve": 0.05, "worker": "spawn"}
    settings = profiles.settings_of(profiles.write(tmp_path / "stoker.toml", {"queues": {"reports": own}}))
    assert list(rows(look(settings, sample(settings, 9)), settings))[-1] == "reports"
