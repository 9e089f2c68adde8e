"""Settings that do not hold together are refused as a whole, each fault by name, value and remedy, before anything starts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from config.settings import DEFAULT_FILE, Settings, SettingsError, load, python_command
from tests.support import profiles

Load = Callable[..., Settings]

LADDER = {"ready_s": 10.0, "connect_s": 1.0, "activate_s": 2.0, "spawn_budget_s": 20.0}
UPPER = {"stuck_spawning_s": 30.0, "task_soft_limit_s": 40.0, "task_time_limit_s": 50.0, "visibility_s": 60.0}


@pytest.fixture
def read(tmp_path: Path) -> Load:
    def read(**sections: Any) -> Settings:
        return profiles.settings_of(profiles.write(tmp_path / "stoker.toml", sections))

    return read


def refusal(read: Load, **sections: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        read(**sections)
    return str(refused.value)


def ladder(**changed: float) -> dict[str, Any]:
    lower = {key: changed.get(key, value) for key, value in LADDER.items()}
    upper = {key: changed.get(key, value) for key, value in UPPER.items()}
    return {"profiles": {"duck": profiles.echo(**lower)}, "timeouts": {**upper, "claim_wait_max_s": 5.0}}


def test_the_default_file_holds_together() -> None:
    with profiles.in_force(DEFAULT_FILE):
        assert "duckdb" in load().profiles


def test_every_key_of_the_default_file_is_the_default_of_the_code() -> None:
    # What the file says and what leaving it out means are the same, so the file documents the code.
    with profiles.in_force(DEFAULT_FILE):
        written = load()
    for section in (
        "queues",
        "routes",
        "schedule",
        "timeouts",
        "backoff",
        "bounds",
        "history",
        "launcher",
        "flower",
        "exporter",
        "network",
        "operations",
    ):
        assert getattr(written, section) == Settings.model_fields[section].get_default(call_default_factory=True), (
            section
        )


def test_a_ladder_that_holds_is_accepted(read: Load) -> None:
    assert read(**ladder()).profiles["duck"].spawn_budget_s == 20.0


@pytest.mark.parametrize(
    ("changed", "inner", "outer"),
    [
        ({"ready_s": 18.0}, "ready_s 18 + connect_s 1 + activate_s 2 = 21 s", "spawn_budget_s = 20 s"),
        ({"ready_s": 17.0}, "ready_s 17 + connect_s 1 + activate_s 2 = 20 s", "spawn_budget_s = 20 s"),
        ({"spawn_budget_s": 30.0}, "spawn_budget_s = 30 s", "timeouts.stuck_spawning_s = 30 s"),
        ({"stuck_spawning_s": 41.0}, "stuck_spawning_s = 41 s", "timeouts.task_soft_limit_s = 40 s"),
        ({"task_soft_limit_s": 55.0}, "task_soft_limit_s = 55 s", "timeouts.task_time_limit_s = 50 s"),
        ({"task_time_limit_s": 61.0}, "task_time_limit_s = 61 s", "timeouts.visibility_s = 60 s"),
    ],
)
def test_a_broken_rung_is_refused_with_both_values(
    read: Load, changed: dict[str, float], inner: str, outer: str
) -> None:
    said = refusal(read, **ladder(**changed))
    assert inner in said
    assert outer in said
    assert "raise" in said


def test_every_fault_is_named_at_once(read: Load) -> None:
    said = refusal(read, **ladder(ready_s=19.0, task_time_limit_s=70.0))
    assert "ready_s 19" in said
    assert "visibility_s = 60 s" in said


def test_a_claim_may_not_wait_longer_than_the_task_it_waits_in(read: Load) -> None:
    said = refusal(read, timeouts={"claim_wait_max_s": 300.0})
    assert "timeouts.claim_wait_max_s = 300 s" in said
    assert "timeouts.task_soft_limit_s = 300 s" in said


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"operations": {"lease_s": 40.0}},
            ("lease_s 40 + schedule.sweep_s 10 + operations.look_s 15 = 65 s", "at most 60 s", "lower one of them"),
        ),
        ({"operations": {"look_s": 36.0}}, ("operations.look_s 36 = 61 s", "at most 60 s")),
        ({"schedule": {"sweep_s": 31.0}}, ("schedule.sweep_s 31 + operations.look_s 15 = 61 s", "at most 60 s")),
        (
            {"operations": {"lease_s": 10.0}, "timeouts": {"task_soft_limit_s": 10.0, "claim_wait_max_s": 5.0}},
            ("operations.lease_s = 10 s", "timeouts.task_soft_limit_s = 10 s", "raise the second or lower the first"),
        ),
        (
            {"timeouts": {"visibility_s": 40.0}},
            (
                "operations.lease_s 15 + schedule.sweep_s 10 + operations.look_s 15 = 40 s",
                "timeouts.visibility_s = 40 s",
            ),
        ),
    ],
)
def test_what_a_dead_worker_had_is_handed_over_in_time(
    read: Load, sections: dict[str, Any], said: tuple[str, ...]
) -> None:
    refused = refusal(read, **sections)
    for words in said:
        assert words in refused


def test_the_longest_hand_over_there_may_be_is_accepted(read: Load) -> None:
    settings = read(operations={"lease_s": 25.0, "look_s": 25.0}, schedule={"sweep_s": 10.0})
    assert settings.operations.lease_s + settings.operations.look_s + settings.schedule.sweep_s == 60.0


def test_a_node_is_added_to_the_network_by_its_section(read: Load) -> None:
    nodes = {"n1": {"address": "10.0.0.1"}, "n2": {"address": "10.0.0.2"}}
    settings = read(network={"nodes": nodes})
    assert {queue for queue in settings.all_queues if queue.endswith("@n2")} == {
        "user_waiting@n2",
        "user_facing@n2",
        "background@n2",
    }


@pytest.mark.parametrize(("one", "same"), [("16384Mi", "16Gi"), ("1024", "1Ki"), ("0.5Gi", "512Mi"), ("1M", "1000k")])
def test_equal_amounts_of_memory_are_one_profile(read: Load, one: str, same: str) -> None:
    made = [read(profiles={"duck": profiles.echo(memory=text)}).profiles["duck"] for text in (one, same)]
    assert made[0].canonical == made[1].canonical


@pytest.mark.parametrize(("one", "same"), [("500m", 0.5), ("1", 1), ("2000m", "2")])
def test_equal_amounts_of_cpu_are_one_profile(read: Load, one: str | float, same: str | float) -> None:
    made = [read(profiles={"duck": profiles.echo(cpu=text)}).profiles["duck"] for text in (one, same)]
    assert made[0].canonical == made[1].canonical


def test_a_default_written_out_is_the_same_profile(read: Load) -> None:
    bare = read(profiles={"duck": {"command": ["serve"]}}).profiles["duck"]
    written = read(
        profiles={
            "duck": {
                "command": ["serve"],
                "cpu": "100m",
                "memory": "256Mi",
                "environment": {},
                "readiness": {"kind": "tcp"},
            }
        }
    ).profiles["duck"]
    assert bare.canonical == written.canonical


@pytest.mark.parametrize("change", [{"command": ["other"]}, {"memory": "9Mi"}, {"environment": {"A": "b"}}, {"cpu": 2}])
def test_what_a_worker_is_makes_another_profile(read: Load, change: dict[str, Any]) -> None:
    before = read(profiles={"duck": profiles.echo()}).profiles["duck"].canonical
    assert read(profiles={"duck": profiles.echo(**change)}).profiles["duck"].canonical != before


@pytest.mark.parametrize("change", [{"floor": 3}, {"hot_idle_s": 1.0}, {"ready_s": 5.0}, {"max_workers": 9}])
def test_how_many_and_how_long_do_not(read: Load, change: dict[str, Any]) -> None:
    before = read(profiles={"duck": profiles.echo()}).profiles["duck"].canonical
    assert read(profiles={"duck": profiles.echo(**change)}).profiles["duck"].canonical == before


def test_a_profile_is_found_by_either_of_its_names(read: Load) -> None:
    settings = read(profiles={"duck": profiles.echo()})
    duck = settings.profiles["duck"]
    assert settings.profile("duck") is settings.profile(duck.canonical) is duck
    assert settings.profile("duc") is None


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"profiles": {"duck": profiles.echo(flor=3)}}, "unknown key 'flor', did you mean 'floor'?"),
        ({"timeouts": {"visibility": 9}}, "unknown key 'visibility', did you mean 'visibility_s'?"),
        ({"schedule": {"zzz": 1}}, "unknown key 'zzz'; known: entries, reap_s, reconcile_s, sweep_s"),
        ({"profiles": {"duck": profiles.echo(floor=9, max_workers=3)}}, "floor 9 is above max_workers 3"),
        ({"profiles": {"duck": profiles.echo(memory="12Qi")}}, "unknown unit 'Qi'; use one of k, M, G, T, Ki"),
        ({"profiles": {"duck": profiles.echo(memory="lots")}}, "memory 'lots' is not a quantity; write it like 512Mi"),
        ({"profiles": {"duck": profiles.echo(cpu="2Gi")}}, "unknown unit 'Gi'; write cores (0.5) or millicores (500m)"),
        ({"launcher": {"process": {"first_port": 65_000}}}, "first_port 65000 + ports 8000 passes 65535"),
        ({"profiles": {"duck": profiles.echo(command=[])}}, "profiles.duck.command"),
        ({"profiles": {"Duck Soup": profiles.echo()}}, "profiles.Duck Soup"),
        ({"profiles": {"duck": 7}}, "profiles.duck"),
        ({"profiles": {"duck": profiles.echo(floor=-1)}}, "profiles.duck.floor"),
        ({"profiles": {"duck": profiles.echo(ready_s="soon")}}, "profiles.duck.ready_s"),
        ({"profiles": {"duck": profiles.echo(readiness={"kind": "http", "path": "a b\r\n"})}}, "readiness"),
        ({"tenants": {"caps": {"acme": {"max_workers": -3}}}}, "tenants.caps.acme.max_workers"),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(read: Load, sections: dict[str, Any], said: str) -> None:
    assert said in refusal(read, **sections)


def test_an_unknown_section_is_refused_with_a_suggestion(read: Load) -> None:
    assert "did you mean 'profiles'" in refusal(read, profile={"duck": profiles.echo()})


@pytest.mark.parametrize("evil", ["nan", "inf", "-inf", "-1", "0", "1e9"])
def test_no_deadline_is_endless_negative_or_not_a_number(tmp_path: Path, evil: str) -> None:
    path = tmp_path / "stoker.toml"
    path.write_text(f"[schedule]\nreconcile_s = {evil}\n")
    with pytest.raises(SettingsError, match=r"schedule\.reconcile_s"):
        profiles.settings_of(path)


def test_the_environment_wins_over_the_file(read: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_WAKE_UPS", "false")
    monkeypatch.setenv("STOKER_SCHEDULE__RECONCILE_S", "2")
    monkeypatch.setenv("STOKER_PROFILES__DUCK__FLOOR", "8")
    settings = read(profiles={"duck": profiles.echo(floor=1, lease_s=9.0)}, schedule={"reap_s": 7.0})
    assert (settings.wake_ups, settings.schedule.reconcile_s, settings.schedule.reap_s) == (False, 2.0, 7.0)
    assert (settings.profiles["duck"].floor, settings.profiles["duck"].lease_s) == (8, 9.0)


def test_a_wrong_variable_is_refused_like_a_wrong_line(read: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_SCHEDULE__RECONCILE_S", "often")
    assert "schedule.reconcile_s" in refusal(read)


def test_bad_toml_names_its_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "stoker.toml"
    path.write_text("wake_ups = = true\n")
    with pytest.raises(SettingsError, match=r"stoker\.toml.*line 1.*stoker doctor"):
        profiles.settings_of(path)


def test_a_missing_file_is_an_error_and_not_the_defaults(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="found none; set STOKER_CONFIG"):
        profiles.settings_of(tmp_path / "no.toml")


def test_settings_do_not_change(read: Load) -> None:
    settings = read(profiles={"duck": profiles.echo()})
    with pytest.raises(ValueError, match="frozen"):
        settings.wake_ups = False  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        settings.profiles["duck"].floor = 9  # type: ignore[misc]


def test_caps_of_tenants(read: Load) -> None:
    settings = read(tenants={"default_max_workers": 3, "caps": {"acme": {"max_workers": 7}, "free": {}}})
    assert [settings.tenant_cap(tenant) for tenant in ("acme", "free", "anybody")] == [7, 0, 3]


def test_a_ticket_outlives_two_ticks(read: Load) -> None:
    assert read(schedule={"reconcile_s": 4.0}).ticket_ttl_s == 8.0


def test_a_command_needs_no_path_of_a_machine() -> None:
    assert python_command(("{python}", "-m", "x")) == (sys.executable, "-m", "x")


def test_a_broken_ladder_stops_every_process_before_it_opens_a_socket(tmp_path: Path) -> None:
    path = profiles.write(tmp_path / "stoker.toml", ladder(ready_s=19.0))
    environment = {"STOKER_CONFIG": str(path), "STOKER_STATE_DIR": str(tmp_path / "state"), "PATH": ""}
    command = [
        sys.executable,
        "-c",
        "import sys; sys.argv = ['stoker', 'migrate', '--json']; from tasks.cli import main; main()",
    ]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert "19" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert json.loads(ended.stdout)["kind"] == "SettingsError"
    assert not (tmp_path / "state").exists()


def test_the_rungs_are_a_chain() -> None:
    # The table above breaks each rung once; this holds it to the ladder, should one be added.
    rungs = [
        sum(LADDER[key] for key in ("ready_s", "connect_s", "activate_s")),
        LADDER["spawn_budget_s"],
        *UPPER.values(),
    ]
    assert all(inner < outer for inner, outer in pairwise(rungs))
