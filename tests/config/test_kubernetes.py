"""What a cluster needs is refused before anything starts; profiles that know nothing of pods keep their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.profile import Profile
from config.settings import Settings, SettingsError
from tests.support import profiles

IMAGE = "registry.example/worker@sha256:" + "a" * 64
LONG = {"ready_s": 180.0, "spawn_budget_s": 200.0}
Load = Callable[..., Settings]


@pytest.fixture
def read(tmp_path: Path) -> Load:
    def read(**sections: Any) -> Settings:
        return profiles.settings_of(profiles.write(tmp_path / "stoker.toml", sections))

    return read


def cluster(pod: dict[str, Any] | None, *, launcher: dict[str, Any] | None = None, **facts: Any) -> dict[str, Any]:
    said = {"kubernetes": pod} if pod is not None else {}
    return {
        "profiles": {"duck": profiles.echo(**{**LONG, **facts}, **said)},
        "launcher": {"kind": "kubernetes", "kubernetes": launcher or {}},
    }


def refusal(read: Load, **sections: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        read(**sections)
    return str(refused.value)


def test_a_profile_with_an_image_and_time_enough_is_accepted(read: Load) -> None:
    settings = read(**cluster({"image": IMAGE}))
    assert settings.launcher.kind == "kubernetes"
    assert settings.profiles["duck"].kubernetes


@pytest.mark.parametrize(
    "image", ["worker:latest", "worker", "worker@sha256:12", "@sha256:" + "a" * 64, "worker@sha256:" + "A" * 64]
)
def test_an_image_by_tag_is_refused_with_the_remedy(read: Load, image: str) -> None:
    said = refusal(read, **cluster({"image": image}))
    assert "profiles.duck.kubernetes.image" in said
    assert repr(image) in said
    assert "name the digest" in said


def test_a_profile_without_an_image_is_refused_on_a_cluster_alone(read: Load) -> None:
    assert "[profiles.duck.kubernetes]" in refusal(read, **cluster(None))
    assert read(profiles={"duck": profiles.echo()}).profiles["duck"].kubernetes is None


@pytest.mark.parametrize("ready_s", [30.0, 120.0])
def test_a_spawn_that_is_given_up_before_a_node_can_come_is_refused(read: Load, ready_s: float) -> None:
    said = refusal(read, **cluster({"image": IMAGE}, ready_s=ready_s))
    assert "launcher.kubernetes.node_arrives_s = 120 s must be less than" in said
    assert f"profiles.duck.ready_s = {ready_s:g} s" in said


def test_a_request_outlasts_no_lease_of_a_launch(read: Load) -> None:
    said = refusal(read, **cluster({"image": IMAGE}, launcher={"request_s": 10.0}))
    assert "request_s = 10 s must be less than timeouts.launch_lease_s = 10 s" in said


def test_names_of_profiles_without_pods_are_what_they_were() -> None:
    # As the version before pods called it.
    assert Profile(name="duck", command=("serve",)).canonical == "duck@75c8d242"


def test_whatever_a_pod_is_told_decides_what_a_worker_is() -> None:
    told = [{}, {"port": 9_000}, {"node_selector": {"a": "b"}}, {"priority_class": "p"}, {"run_as_user": 7}]
    names = {Profile(name="duck", command=("serve",), kubernetes={"image": IMAGE, **one}).canonical for one in told}
    assert len(names) == len(told)
    # How many, and not what.
    roomy = Profile(name="duck", command=("serve",), kubernetes={"image": IMAGE, "headroom": 3})
    assert roomy.canonical in names


def test_headroom_needs_to_know_what_its_pods_are(read: Load) -> None:
    said = refusal(read, **cluster({"image": IMAGE, "headroom": 2}))
    assert "launcher.kubernetes.placeholder_image and placeholder_class" in said
    roomy = {"placeholder_image": IMAGE, "placeholder_class": "headroom"}
    assert read(**cluster({"image": IMAGE, "headroom": 2}, launcher=roomy))
