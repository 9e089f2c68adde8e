"""deploy/kubernetes/rbac.yaml gives the launcher what it needs, and a token of that account cannot do anything else."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.kubernetes import KubernetesLauncher as Cluster
from tasks.cli.kubernetes_checks import cluster
from tasks.launchers.base import LaunchSpec, Starting
from tasks.launchers.kubernetes import KubernetesLauncher
from tasks.launchers.kubernetes.api import Api, Refusal
from tests.support import profiles
from tests.support.control_plane import ControlPlane
from tests.support.eventually import eventually
from tests.support.kubelet import Kubelet
from tests.support.pods import IMAGE, POLITE

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "deploy" / "kubernetes" / "rbac.yaml"
LIMIT_S = 60.0
WORKERS = "stoker-workers"
KINDS = {
    "Namespace": "/api/v1/namespaces",
    "Role": f"/apis/rbac.authorization.k8s.io/v1/namespaces/{WORKERS}/roles",
    "RoleBinding": f"/apis/rbac.authorization.k8s.io/v1/namespaces/{WORKERS}/rolebindings",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
}
ACCOUNTS = "/api/v1/namespaces/stoker/serviceaccounts"
# Of each resource, what the manifest grants; all else of these is refused.
GRANTED = {"pods": {"create", "get", "list", "watch", "patch", "delete"}, "resourcequotas": {"list"}}
# Without a kubeconfig.
INSIDE = """
import asyncio
from config.kubernetes import KubernetesLauncher as Cluster
from tasks.launchers.base import LaunchSpec
from tasks.launchers.kubernetes import KubernetesLauncher
from tests.support.pods import POLITE

launcher = KubernetesLauncher(Cluster())
placement = launcher.launch(LaunchSpec(7, "inside", POLITE, "key"))
print([one.worker_id for one in launcher.list("inside")])
asyncio.run(launcher.stop(placement.handle, "inside", 7, 0))
launcher.close()
"""
VERBS = ("create", "get", "list", "watch", "patch", "update", "delete", "deletecollection")


@pytest.fixture(scope="module")
def account(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig with a token of the manifest's service account."""
    plane.namespace("stoker")
    plane.create(ACCOUNTS, {"metadata": {"name": "stoker"}})
    for document in yaml.safe_load_all(MANIFEST.read_text()):
        plane.create(KINDS[document["kind"]], document)
    asked = plane.create(f"{ACCOUNTS}/stoker/token", {"spec": {"audiences": []}})
    path = plane.kubeconfig_of(asked["status"]["token"], tmp_path_factory.mktemp("account") / "kubeconfig")
    api = Api(Cluster(kubeconfig=path))
    # Rights hold when the server has seen them in its own watch.
    eventually(
        lambda: api.may("create", "pods") and api.may("list", "nodes", everywhere=True),
        "the rights hold",
        within_s=LIMIT_S,
    )
    return path


@pytest.fixture
def launcher(account: Path) -> Iterator[KubernetesLauncher]:
    made = KubernetesLauncher(Cluster(kubeconfig=account))
    yield made
    made.close()


def test_the_account_can_live_a_workers_whole_life(launcher: KubernetesLauncher, nodes: Kubelet) -> None:
    async def live() -> None:
        async with asyncio.timeout(LIMIT_S):
            placement = await asyncio.to_thread(launcher.launch, LaunchSpec(1, "rights", POLITE, "key"))
            starting = Starting(1, POLITE, placement.handle, None)
            located = await launcher.wait_ready(starting, asyncio.Event(), LIMIT_S)
            assert located.node in nodes.nodes
            await launcher.protect(placement.handle, claimed=True)
            assert set(await launcher.wait_cordons({})) >= nodes.nodes
            assert launcher.alive(placement.handle)
            assert launcher.find("rights", 1)
            assert [one.worker_id for one in launcher.list("rights")] == [1]
            await launcher.stop(placement.handle, "rights", 1, 0)
            await launcher.wait_exit(placement.handle)

    asyncio.run(live())


def test_the_account_of_ones_own_pod_will_do(
    account: Path, plane: ControlPlane, nodes: Kubelet, tmp_path: Path
) -> None:
    if plane.folder is None or os.geteuid() != 0:
        pytest.skip("lays an account's files where a pod has them, and those of this test's own server: needs root")
    assert nodes.nodes
    (user,) = yaml.safe_load(account.read_text())["users"]
    (tmp_path / "token").write_text(user["user"]["token"])
    host, port = plane.server.removeprefix("https://").split(":")
    # /var/run is /run; what is mounted there is mounted for this one process.
    mounted = "/run/secrets/kubernetes.io/serviceaccount"
    lay = f"mount -t tmpfs none /run; mkdir -p {mounted}; cp {tmp_path}/token {plane.folder}/certs/apiserver.crt {mounted}"
    then = f'mv {mounted}/apiserver.crt {mounted}/ca.crt; exec {sys.executable} -c "$0"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", f"{lay}; {then}", INSIDE],
        cwd=ROOT,
        env={**os.environ, "KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert (done.returncode, done.stdout) == (0, "[7]\n"), done.stderr


def test_the_account_can_tell_why_it_was_refused(account: Path) -> None:
    api = Api(Cluster(kubeconfig=account))
    assert api.may("create", "pods")
    assert api.quotas() == []


@pytest.mark.parametrize("resource", ["pods", "resourcequotas", "secrets", "configmaps", "serviceaccounts", "services"])
@pytest.mark.parametrize("namespace", [WORKERS, "stoker", "default", "kube-system"])
def test_the_account_may_do_what_is_granted_and_nothing_else(account: Path, resource: str, namespace: str) -> None:
    api = Api(Cluster(kubeconfig=account, qps=1_000, burst=1_000))
    granted = GRANTED.get(resource, set()) if namespace == WORKERS else set()
    assert {verb for verb in VERBS if allowed(api, verb, resource, namespace)} == granted


@pytest.mark.parametrize("subresource", ["exec", "attach", "portforward", "log", "eviction", "status", "binding"])
def test_the_account_enters_no_worker(account: Path, subresource: str) -> None:
    api = Api(Cluster(kubeconfig=account, qps=1_000, burst=1_000))
    assert not any(allowed(api, verb, "pods", WORKERS, subresource) for verb in VERBS)


def test_the_account_changes_no_node(account: Path) -> None:
    api = Api(Cluster(kubeconfig=account, qps=1_000, burst=1_000))
    assert {verb for verb in VERBS if allowed(api, verb, "nodes")} == {"get", "list", "watch"}
    with pytest.raises(Refusal, match="Forbidden"):
        api.request("DELETE", f"{api.nodes}/node-1")


def test_doctor_names_the_rights_that_are_missing(account: Path, plane: ControlPlane, tmp_path: Path) -> None:
    def checked(kubeconfig: Path) -> dict[str, tuple[bool, str]]:
        document = {
            "profiles": {"duck": profiles.echo(kubernetes={"image": IMAGE}, ready_s=180.0, spawn_budget_s=200.0)},
            "launcher": {"kind": "kubernetes", "kubernetes": {"kubeconfig": str(kubeconfig)}},
        }
        settings = profiles.settings_of(profiles.write(tmp_path / "stoker.toml", document))
        return {check.name: (check.ok, check.found) for check in cluster(settings)}

    assert checked(account) == {
        "kubernetes default": (True, "answers; workers in namespace stoker-workers"),
        "rights on kubernetes": (True, "all that are needed"),
    }
    plane.create(ACCOUNTS, {"metadata": {"name": "nobody"}})
    token = plane.create(f"{ACCOUNTS}/nobody/token", {"spec": {"audiences": []}})["status"]["token"]
    ok, found = checked(plane.kubeconfig_of(token, tmp_path / "nobody"))["rights on kubernetes"]
    assert (ok, "create pods" in found, "watch nodes" in found) == (False, True, True)
    assert checked(tmp_path / "missing")["kubernetes default"][0] is False


def allowed(api: Api, verb: str, resource: str, namespace: str = "", subresource: str = "") -> bool:
    asked = {"verb": verb, "resource": resource, "namespace": namespace, "subresource": subresource}
    body: dict[str, Any] = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    answer = api.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)
    return bool(answer["status"]["allowed"])
