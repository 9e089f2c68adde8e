"""A Kubernetes control plane for tests: a real API server with its etcd, scheduler and controllers, or a cluster that is named.

STOKER_TEST_KUBECONFIG names a cluster. Else the four programs are looked for in the folder STOKER_KUBERNETES_BIN, or in the
newest `kube-*` of the user's cache folder.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import urllib3
import yaml

from config.kubernetes import KubernetesLauncher
from tasks.launchers.kubernetes.api import Api, Refusal
from tests.support.eventually import eventually
from tests.support.ports import free_port

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
UP_S = 60.0
NODE_GRACE_S = 20


@dataclass
class ControlPlane:
    """Where it is. `folder` None: somebody else's, which is not restarted."""

    kubeconfig: Path
    folder: Path | None = None
    server: str = ""
    token: str = field(default="", repr=False)
    processes: dict[str, tuple[list[str], subprocess.Popen[bytes]]] = field(default_factory=dict)

    def kubeconfig_of(self, token: str, path: Path) -> Path:
        """A kubeconfig of this cluster for the bearer of that token."""
        document = yaml.safe_load(self.kubeconfig.read_text())
        for user in document["users"]:
            user["user"] = {"token": token}
        path.write_text(json.dumps(document))
        return path

    @cached_property
    def api(self) -> Api:
        """With all rights."""
        return Api(KubernetesLauncher(kubeconfig=self.kubeconfig, qps=1_000, burst=1_000, request_s=20.0))

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What was created, or {} if it was there."""
        try:
            return self.api.request("POST", path, body=body)
        except Refusal as refusal:
            if refusal.reason == "AlreadyExists":
                return {}
            raise

    def namespace(self, name: str) -> str:
        """A namespace of that name."""
        self.create("/api/v1/namespaces", {"metadata": {"name": name}})
        return name

    def restart_api(self) -> None:
        """The API server ends and begins anew: every watch breaks, and what it knew of old versions is gone."""
        argv, process = self.processes["kube-apiserver"]
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._run("kube-apiserver", argv)
        self.until_ready()

    def until_ready(self) -> None:
        eventually(self._is_ready, f"the API server is ready; see {self.folder}/kube-apiserver.log", within_s=UP_S)

    def _is_ready(self) -> bool:
        bearer = {"Authorization": f"Bearer {self.token}"}
        try:
            answer = self.pool().request("GET", f"{self.server}/readyz", headers=bearer, retries=False, timeout=2.0)
        except (urllib3.exceptions.HTTPError, OSError):
            return False
        return answer.status == 200

    def pool(self, connections: int = 1) -> urllib3.PoolManager:
        """Connections to the server of one's own."""
        assert self.folder is not None
        return urllib3.PoolManager(maxsize=connections, ca_certs=str(self.folder / "certs" / "apiserver.crt"))

    def _run(self, name: str, argv: list[str]) -> None:
        assert self.folder is not None
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=self.folder, start_new_session=True)
        self.processes[name] = (argv, process)


def binaries() -> Path | None:
    """The folder that has the four programs."""
    named = os.environ.get("STOKER_KUBERNETES_BIN")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for folder in [Path(named)] if named else sorted(cache.glob("kube-*"), reverse=True):
        if all(os.access(folder / program, os.X_OK) for program in PROGRAMS):
            return folder
    return None


def is_there() -> bool:
    """Whether there is anything to test on."""
    return bool(os.environ.get("STOKER_TEST_KUBECONFIG")) or binaries() is not None


@contextmanager
def running_control_plane() -> Iterator[ControlPlane]:
    """The one that is named, or one of this test's own."""
    named = os.environ.get("STOKER_TEST_KUBECONFIG")
    if named:
        yield ControlPlane(Path(named))
        return
    found = binaries()
    if found is None:
        pytest.skip(f"no Kubernetes: set STOKER_KUBERNETES_BIN to a folder with {', '.join(PROGRAMS)}")
    with ExitStack() as down:
        folder = Path(mkdtemp(prefix="stoker-kube-", dir="/var/tmp"))
        down.callback(shutil.rmtree, folder, ignore_errors=True)
        plane = _configured(folder)
        down.callback(_end, plane)
        for name, argv in _commands(found, plane).items():
            plane._run(name, argv)
            if name == "kube-apiserver":
                plane.until_ready()
        yield plane


def _configured(folder: Path) -> ControlPlane:
    port, token = free_port(), secrets.token_hex(16)
    server = f"https://127.0.0.1:{port}"
    (folder / "certs").mkdir()
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    subprocess.run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"], check=True, capture_output=True)
    kubeconfig = folder / "kubeconfig"
    kubeconfig_for(kubeconfig, server, folder / "certs" / "apiserver.crt", token)
    return ControlPlane(kubeconfig, folder, server, token)


def kubeconfig_for(path: Path, server: str, ca: Path | None, token: str) -> Path:
    """A kubeconfig of that server for the bearer of that token."""
    cluster = {"server": server, **({"certificate-authority": str(ca)} if ca else {})}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(document))
    return path


def _commands(found: Path, plane: ControlPlane) -> dict[str, list[str]]:
    assert plane.folder is not None
    at, etcd, peers = plane.folder, free_port(), free_port()
    port = plane.server.rpartition(":")[2]
    # Since 1.24 there is no insecure port that would have to be switched off.
    version = subprocess.run([found / "kube-apiserver", "--version"], check=True, capture_output=True, text=True).stdout
    old = int(version.split(".")[1]) < 24
    controlling = [f"--kubeconfig={plane.kubeconfig}", "--leader-elect=false", "--secure-port=0", *(["--port=0"] * old)]
    return {
        "etcd": [
            str(found / "etcd"),
            f"--data-dir={at / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{etcd}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peers}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peers}",
            f"--initial-cluster=default=http://127.0.0.1:{peers}",
            "--unsafe-no-fsync",
        ],
        "kube-apiserver": [
            str(found / "kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={at / 'certs'}",
            f"--token-auth-file={at / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={at / 'sa.key'}",
            f"--service-account-key-file={at / 'sa.key'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--endpoint-reconciler-type=none",
            "--disable-admission-plugins=ServiceAccount",
        ],
        "kube-controller-manager": [
            str(found / "kube-controller-manager"),
            *controlling,
            f"--service-account-private-key-file={at / 'sa.key'}",
            "--node-monitor-period=1s",
            f"--node-monitor-grace-period={NODE_GRACE_S}s",
        ],
        "kube-scheduler": [str(found / "kube-scheduler"), *controlling],
    }


def _end(plane: ControlPlane) -> None:
    for _, process in reversed(plane.processes.values()):
        process.kill()
        process.wait()
