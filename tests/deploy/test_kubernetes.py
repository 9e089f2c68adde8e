"""deploy/kubernetes as kustomize builds it: valid, strict about what a pod may do, and the same deployment as compose.yaml."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import compose, profiles

FOLDER = compose.REPOSITORY / "deploy" / "kubernetes"
PARTS = ("base", "network")
OLDEST, NEWEST = "1.29", "1.33"
SERVICES: Mapping[str, Any] = compose.document()["services"]
SECRETS = "/run/secrets/stoker"

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl, which has kustomize in it")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("kubernetes")
    for part in PARTS:
        done = subprocess.run(["kubectl", "kustomize", FOLDER / part], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (folder / f"{part}.yaml").write_text(done.stdout)
    return {part: folder / f"{part}.yaml" for part in PARTS}


@pytest.fixture(scope="module")
def objects(built: Mapping[str, Path]) -> dict[str, list[dict[str, Any]]]:
    return {part: list(yaml.safe_load_all(path.read_text())) for part, path in built.items()}


def pods(objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every template of a pod."""
    for each in objects:
        template = each.get("spec", {}).get("template")
        if template:
            yield template


def containers(objects: Mapping[str, list[dict[str, Any]]]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """By name, each container with its pod."""
    found = [(one, pod["spec"]) for part in PARTS for pod in pods(objects[part]) for one in pod["spec"]["containers"]]
    return {one["name"]: (one, pod) for one, pod in found}


def environment(objects: Mapping[str, list[dict[str, Any]]], container: Mapping[str, Any]) -> dict[str, str]:
    maps = {
        each["metadata"]["name"]: each["data"]
        for part in PARTS
        for each in objects[part]
        if each["kind"] == "ConfigMap"
    }
    taken: dict[str, str] = {}
    for source in container["envFrom"]:
        taken |= maps[source["configMapRef"]["name"]]
    return taken | {one["name"]: one.get("value", "") for one in container.get("env", ())}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("part", PARTS)
def test_each_object_is_valid_by_kubernetes_own_schemas(built: Mapping[str, Path], part: str, version: str) -> None:
    program = Path(sys.executable).with_name("kubernetes-validate")
    checked = subprocess.run(
        [program, "--strict", "-k", version, built[part]], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_it_runs_what_compose_runs(objects: Mapping[str, list[dict[str, Any]]]) -> None:
    ours = {name: service for name, service in SERVICES.items() if "build" in service}
    found = containers(objects)
    assert found.keys() == ours.keys()
    for name, (container, pod) in found.items():
        service = ours[name]
        assert [part.replace("$(NODE)", "node1") for part in container["command"]] == service["command"]
        probes = [container[probe] for probe in container if probe.endswith("Probe")]
        assert all(probe["exec"]["command"] == service["healthcheck"]["test"][1:] for probe in probes)
        assert bool(probes) == ("healthcheck" in service)
        held = {item["key"] for volume in pod["volumes"] if "secret" in volume for item in volume["secret"]["items"]}
        assert held == set(service["secrets"])
        assert container["image"] == service["image"]
        told = environment(objects, container)
        assert told.keys() - {"NODE"} == service["environment"].keys()
        assert all(value.startswith(f"{SECRETS}/") for key, value in told.items() if key.endswith("_FILE"))


def test_pods_are_restricted_and_the_network_worker_alone_is_not(objects: Mapping[str, list[dict[str, Any]]]) -> None:
    for name, (container, pod) in containers(objects).items():
        rights, of_pod = container["securityContext"], pod["securityContext"]
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["capabilities"]["drop"] == ["ALL"]
        assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert {"cpu", "memory", "ephemeral-storage"} == container["resources"]["limits"].keys()
        assert container["resources"]["requests"].keys() == container["resources"]["limits"].keys()
        usual = name != "network"
        assert ("hostNetwork" in pod) != usual
        assert rights["capabilities"].get("add", []) == ([] if usual else SERVICES["network"]["cap_add"])
        if usual:
            assert rights["allowPrivilegeEscalation"] is False
            assert (of_pod["runAsNonRoot"], of_pod["runAsUser"]) == (True, 10_001)
            assert all({"configMap", "secret", "emptyDir"} & volume.keys() for volume in pod["volumes"])
    levels = {
        each["metadata"]["name"]: each["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for part in PARTS
        for each in objects[part]
        if each["kind"] == "Namespace"
    }
    assert levels == {"stoker": "restricted", "stoker-network": "privileged"}


def test_its_settings_hold_together() -> None:
    assert profiles.settings_of(FOLDER / "settings" / "stoker.toml").profiles["duckdb"].floor == 5


def test_no_secret_is_in_it(objects: Mapping[str, list[dict[str, Any]]]) -> None:
    every = [each for part in PARTS for each in objects[part]]
    assert not [each for each in every if each["kind"] == "Secret"]
    for container, pod in containers(objects).values():
        assert not any("secretKeyRef" in str(one) for one in container.get("env", ()))
        assert [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "secrets"] == [SECRETS]
        assert {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume} == {"stoker"}


def test_what_selects_pods_finds_some(objects: Mapping[str, list[dict[str, Any]]]) -> None:
    base = objects["base"]
    labels = [pod["metadata"]["labels"] for pod in pods(base)]

    def found(selector: Mapping[str, str]) -> bool:
        return any(selector.items() <= of_pod.items() for of_pod in labels)

    for each in base:
        spec = each.get("spec", {})
        match each["kind"]:
            case "Service":
                assert found(spec["selector"])
            case "PodDisruptionBudget":
                assert found(spec["selector"]["matchLabels"])
            case "NetworkPolicy":
                assert found(spec["podSelector"].get("matchLabels", {}))
            case "Deployment":
                assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
                assert spec["replicas"] == (2 if each["metadata"]["name"] == "beat" else 1)
    denied = [each["spec"] for each in base if each["kind"] == "NetworkPolicy" and not each["spec"]["podSelector"]]
    assert [spec["policyTypes"] for spec in denied] == [["Ingress", "Egress"]]
    assert "ingress" not in denied[0]
