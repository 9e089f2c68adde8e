"""Each bench works and writes what its readers rely on. How fast anything is, is not asked here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.catalogue import BENCHES
from bench.figures import Ratio, percentile
from tests.support.servers import Servers

ROOT = Path(__file__).parents[2]
RUN_S_MAX = 280.0

RATIOS = {
    "claim": {"claim_vs_statement", "claim_vs_seven_trips", "rows_1k_vs_100"},
    "reconcile": {"create_database_vs_insert", "nothing_vs_count"},
    "ready": {"ready_vs_hot_claim"},
    "coalesce": {
        f"{figure}{peer}"
        for peer in ("", "_celery_singleton", "_celery_once")
        for figure in ("lead_vs_plain", "fold_vs_plain")
    },
    "operations": {"wake_vs_notify_1_waiting", "wake_vs_notify_32_waiting", "completed_vs_apart", "steps_run_vs_asked"},
    "dispatch": {
        "tasks_vs_stock",
        "tasks_vs_stock_threads",
        "latency_vs_stock",
        "publish_vs_stock_batch",
        "fan_out_vs_stock",
    },
    "schedule": {"edit_to_effect_vs_redbeat", "take_over_vs_redbeat"},
    "fairness": {"trickle_max_wait_over_bound_s", "interactive_p99_vs_strict"},
}
OWN_ENGINES = "reconcile"
ENGINES = {name: {"redis_server"} for name in ("coalesce", "dispatch", "fairness")}  # the others have both


def bench(folder: Path, *arguments: str, **urls: str | None) -> subprocess.CompletedProcess[str]:
    given = {f"STOKER_{name.upper()}": url for name, url in urls.items() if url}
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=folder,
        env={**os.environ, **given, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )


def measured(folder: Path, name: str, servers: Servers) -> dict[str, Any]:
    # One of them on engines of its own, as it is without those of the suite.
    database_url = None if name == OWN_ENGINES else servers.database_url
    done = bench(folder, name, "--quick", "--json", redis_url=servers.redis_apart(), database_url=database_url)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert document == json.loads((folder / "bench-results" / f"{name}.json").read_text(encoding="utf-8"))
    return document


@pytest.mark.parametrize("name", BENCHES)
def test_writes_where_when_and_what_it_measured(servers: Servers, name: str, tmp_path: Path) -> None:
    document = measured(tmp_path, name, servers)
    assert document["bench"] == name
    assert document["quick"] is True
    assert {"started_at", "took_s", "commit", "settings", "figures", "spread", "aims"} <= document.keys()
    assert {
        "cpu_model",
        "cores",
        "memory_gib",
        "python",
        "celery",
        "load_average",
    } | ENGINES.get(name, {"postgres", "redis_server"}) <= document["machine"].keys()
    assert RATIOS[name] <= document["ratios"].keys()
    for ratio, value in document["ratios"].items():
        spread = document["spread"][ratio]
        assert 0 < spread["lowest"] <= value <= spread["highest"]
    if name == "coalesce":
        shows_who_keeps_what(document["behaviour"])
    if name == "schedule":
        figures = document["figures"]
        assert {"edit_to_effect_s", "take_over_s", "lease_s"} <= figures.keys()
        assert (figures["duplicate_ticks"], figures["lost_ticks"], figures["sends_after_flush"]) == (0, 0, True)
    if name == "dispatch":
        kill = document["kill"]
        assert (kill["kills"], kill["lost"], kill["left"]) == (4, 0, 0)
        assert kill["stock_kills"] == 4
        assert document["figures"]["idle_commands_per_s"]["1"].keys() == {"stock", "stoker"}


def shows_who_keeps_what(behaviour: dict[str, Any]) -> None:
    assert {"stock", "stoker", "celery_singleton", "celery_once"} <= behaviour.keys()
    # Of stoker the invariants speak (I20 to I22); what the others do is theirs to change.
    assert behaviour["stoker"]["loses_update"] is False
    assert behaviour["stoker"]["waiter_of_duplicate_gets"] == "own"
    assert behaviour["stoker"]["killed_leader"] == {"duplicate_served": True, "key_free": True}
    assert behaviour["stock"]["runs_two_at_once"] is True


def test_without_a_name_it_lists_the_benches(tmp_path: Path) -> None:
    done = bench(tmp_path)
    assert done.returncode == 0
    assert all(name in done.stdout for name in BENCHES)
    assert not (tmp_path / "bench-results").exists()


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    done = bench(tmp_path, "clam")
    assert done.returncode == 2
    assert "did you mean 'claim'?" in done.stderr


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([7.0], 0.99) == 7.0
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)


def test_a_ratio_pairs_the_rounds() -> None:
    # A machine that is ten times slower in the second round changes both, and so nothing.
    ratio = Ratio.of([2.0, 20.0, 3.0], [1.0, 10.0, 1.0])
    assert (ratio.lowest, ratio.median, ratio.highest, ratio.rounds) == (2.0, 2.0, 3.0, 3)
