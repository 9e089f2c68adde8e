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
LAUNCHER_KINDS = {"process": "process", "pods": "kubernetes"}
LAUNCHERS = tuple(LAUNCHER_KINDS)
PARTS = (*LAUNCHERS, "network")
OLDEST, NEWEST = "1.29", "1.33"
SERVICES: Mapping[str, Any] = compose.document()["services"]
SECRETS = "/run/secrets/stoker"
ASKS_THE_CLUSTER = {("pods", "spawn"), ("pods", "control")}

Objects = Mapping[str, list[dict[str, Any]]]

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl, which has kustomize in it")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("kubernetes")
    for part in PARTS:
        done = subprocess.run(["kubectl", "kustomize", FOLDER / part], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (folder / f"{part}.yaml").write_text(done.stdout)
    return {"rbac": FOLDER / "rbac.yaml"} | {part: folder / f"{part}.yaml" for part in PARTS}


@pytest.fixture(scope="module")
def objects(built: Mapping[str, Path]) -> Objects:
    return {part: list(yaml.safe_load_all(path.read_text())) for part, path in built.items()}


def pods(objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every template of a pod."""
    for each in objects:
        template = each.get("spec", {}).get("template")
        if template:
            yield template


def containers(objects: Objects, launcher: str) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """By name, each container with its pod, of a deployment with this launcher and networks."""
    built = [*pods(objects[launcher]), *pods(objects["network"])]
    found = [(one, pod["spec"]) for pod in built for one in pod["spec"]["containers"]]
    assert len({one["name"] for one, _ in found}) == len(found)
    return {one["name"]: (one, pod) for one, pod in found}


def environment(objects: Objects, container: Mapping[str, Any]) -> dict[str, str]:
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
@pytest.mark.parametrize("part", ["rbac", *PARTS])
def test_each_object_is_valid_by_kubernetes_own_schemas(built: Mapping[str, Path], part: str, version: str) -> None:
    program = Path(sys.executable).with_name("kubernetes-validate")
    checked = subprocess.run(
        [program, "--strict", "-k", version, built[part]], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_it_runs_what_compose_runs(objects: Objects, launcher: str) -> None:
    ours = {name: service for name, service in SERVICES.items() if "build" in service}
    found = containers(objects, launcher)
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
        assert told.keys() - {"NODE", "STOKER_LAUNCHER__KIND"} == service["environment"].keys()
        assert all(value.startswith(f"{SECRETS}/") for key, value in told.items() if key.endswith("_FILE"))
        if name != "network":
            assert told.get("STOKER_LAUNCHER__KIND", "process") == LAUNCHER_KINDS[launcher]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_pods_are_restricted_and_the_network_worker_alone_is_not(objects: Objects, launcher: str) -> None:
    for name, (container, pod) in containers(objects, launcher).items():
        rights, of_pod = container["securityContext"], pod["securityContext"]
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["capabilities"]["drop"] == ["ALL"]
        assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is ((launcher, name) in ASKS_THE_CLUSTER)
        assert {"cpu", "memory", "ephemeral-storage"} == container["resources"]["limits"].keys()
        assert container["resources"]["requests"].keys() == container["resources"]["limits"].keys()
        usual = name != "network"
        assert ("hostNetwork" in pod) != usual
        assert rights["capabilities"].get("add", []) == ([] if usual else SERVICES["network"]["cap_add"])
        if usual:
            assert rights["allowPrivilegeEscalation"] is False
            assert (of_pod["runAsNonRoot"], of_pod["runAsUser"]) == (True, 10_001)
            assert all({"configMap", "secret", "emptyDir"} & volume.keys() for volume in pod["volumes"])


@pytest.mark.parametrize(
    ("part", "level"), {"process": "restricted", "pods": "restricted", "network": "privileged"}.items()
)
def test_each_namespace_enforces_what_its_pods_keep_to(objects: Objects, part: str, level: str) -> None:
    [namespace] = [each for each in objects[part] if each["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == level
    own = {"Namespace", "ServiceAccount"}
    rest = {each["metadata"]["namespace"] for each in objects[part] if each["kind"] not in own}
    assert rest == {namespace["metadata"]["name"]}


def test_who_asks_the_cluster_has_the_account_that_may(objects: Objects) -> None:
    given = {(one["namespace"], one["name"]) for each in objects["rbac"] for one in each.get("subjects", ())}
    asking = [pod["spec"] for pod in pods(objects["pods"]) if pod["spec"]["automountServiceAccountToken"]]
    assert {("stoker", pod["serviceAccountName"]) for pod in asking} == given
    [workers] = [each["metadata"]["name"] for each in objects["rbac"] if each["kind"] == "Namespace"]
    assert workers in str([each for each in objects["pods"] if each["kind"] == "NetworkPolicy"])


def test_its_settings_hold_together() -> None:
    assert profiles.settings_of(FOLDER / "settings" / "stoker.toml").profiles["duckdb"].floor == 5


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_no_secret_is_in_it(objects: Objects, launcher: str) -> None:
    assert not [each for each in objects[launcher] if each["kind"] == "Secret"]
    for container, pod in containers(objects, launcher).values():
        assert "secretKeyRef" not in str(container)
        assert [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "secrets"] == [SECRETS]
        assert {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume} == {"stoker"}


@pytest.mark.parametrize("part", LAUNCHERS)
def test_what_selects_pods_finds_some(objects: Objects, part: str) -> None:
    labels = [pod["metadata"]["labels"] for pod in pods(objects[part])]

    def found(selector: Mapping[str, Any]) -> bool:
        wanted = selector.get("matchLabels", {}).items()
        among = {one["key"]: set(one["values"]) for one in selector.get("matchExpressions", ())}
        return any(wanted <= of.items() and all(of[key] in values for key, values in among.items()) for of in labels)

    for each in objects[part]:
        spec = each.get("spec", {})
        match each["kind"]:
            case "Service":
                assert found({"matchLabels": spec["selector"]})
            case "PodDisruptionBudget":
                assert found(spec["selector"])
            case "NetworkPolicy":
                assert found(spec["podSelector"])
            case "Deployment":
                assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
                assert spec["replicas"] == (2 if each["metadata"]["name"] in {"beat", "user"} else 1)
    policies = [each["spec"] for each in objects[part] if each["kind"] == "NetworkPolicy"]
    for_all = [spec for spec in policies if not spec["podSelector"]]
    assert [(spec["policyTypes"], "ingress" in spec) for spec in for_all] == [(["Ingress", "Egress"], False)]
