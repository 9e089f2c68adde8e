"""The pod of a worker, as a document: what the profile says, and what no profile may unsay."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any, Final

from config.profile import ExecProbe, HttpProbe, TcpProbe
from tasks.launchers import marks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from config.kubernetes import KubernetesLauncher, Toleration
    from config.kubernetes import Pod as PodSettings
    from config.profile import Probe, Profile
    from tasks.launchers.base import LaunchSpec

# While a tenant holds the worker, neither Karpenter nor the cluster autoscaler may move it elsewhere.
UNDISRUPTED: Final[Mapping[str, str]] = {
    "karpenter.sh/do-not-disrupt": "true",
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
}
CONTAINER: Final = "worker"
ADDRESS: Final = "STOKER_ADDRESS"
# A pod's document is read by more people than its worker's activation key is for. From its digest a worker can tell that
# somebody holds the key, and nobody can tell the key.
KEY_DIGEST: Final = "STOKER_ACTIVATION_KEY_SHA256"
_CONFINED: Final[Mapping[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "privileged": False,
    "capabilities": {"drop": ["ALL"]},
}
_OUT_OF_REACH: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def name_of(pool_id: str, worker_id: int) -> str:
    """The one name that a worker's pod can have: to create it twice is to create it once."""
    return f"{_prefix(pool_id)}-{worker_id}"


def labels_of(cluster: KubernetesLauncher, pool_id: str, worker_id: int) -> dict[str, str]:
    """The mark by which a worker's pod is known."""
    return {f"{cluster.label_prefix}/pool": pool_id, f"{cluster.label_prefix}/worker": str(worker_id)}


def manifest(spec: LaunchSpec, cluster: KubernetesLauncher) -> dict[str, Any]:
    """The document to create.

    Raises:
        ValueError: the profile says nothing of pods; settings that choose this launcher refuse such a profile.
    """
    kind = spec.profile
    if kind.kubernetes is None:
        msg = f"profile {kind.name}: expected [profiles.{kind.name}.kubernetes] with an image, got none; add it"
        raise ValueError(msg)
    name, labels = name_of(spec.pool_id, spec.worker_id), labels_of(cluster, spec.pool_id, spec.worker_id)
    return _document(name, kind, cluster, labels, _spec(spec, kind, kind.kubernetes))


def placeholder(pool_id: str, kind: Profile, number: int, cluster: KubernetesLauncher) -> dict[str, Any]:
    """The document of a pod that holds the room of one worker and makes way for any."""
    assert kind.kubernetes is not None, "who has headroom has pods"
    amounts = _amounts(kind)
    spec = {
        **_place(kind.kubernetes),
        "terminationGracePeriodSeconds": 0,
        "priorityClassName": cluster.placeholder_class,
        "containers": [
            {
                "name": "placeholder",
                "image": cluster.placeholder_image,
                "resources": {"requests": amounts, "limits": amounts},
                "securityContext": dict(_CONFINED),
            }
        ],
    }
    # Another mark than a worker's: nobody claims it, and no sweep takes it for one.
    labels = {f"{cluster.label_prefix}/room": pool_id}
    return _document(f"{_prefix(pool_id)}-room-{kind.name}-{number}", kind, cluster, labels, spec)


def _prefix(pool_id: str) -> str:
    return f"stoker-{hashlib.sha256(pool_id.encode()).hexdigest()[:10]}"


def _document(
    name: str, kind: Profile, cluster: KubernetesLauncher, labels: dict[str, str], spec: dict[str, Any]
) -> dict[str, Any]:
    profile = f"{cluster.label_prefix}/profile"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": cluster.namespace,
            "labels": {"app.kubernetes.io/managed-by": "stoker", profile: kind.name, **labels},
            "annotations": {profile: kind.canonical},
        },
        "spec": spec,
    }


def _spec(spec: LaunchSpec, kind: Profile, pod: PodSettings) -> dict[str, Any]:
    said: dict[str, Any] = {
        **_place(pod),
        # A worker that was started again would be neutral again, after a tenant: it ends for good, and another takes its place.
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": max(1, math.ceil(kind.stop_grace_s)),
        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": str(pod.scratch)}}],
        "containers": [_container(spec, kind, pod)],
    }
    if pod.priority_class:
        said["priorityClassName"] = pod.priority_class
    return said


def _place(pod: PodSettings) -> dict[str, Any]:
    """Where it runs, and as whom."""
    said: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": pod.run_as_user,
            "runAsGroup": pod.run_as_user,
            "fsGroup": pod.run_as_user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [
            *(_toleration(one) for one in pod.tolerations),
            *(
                {
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": pod.unreachable_s,
                }
                for key in _OUT_OF_REACH
            ),
        ],
    }
    chosen = {
        "nodeSelector": pod.node_selector,
        "runtimeClassName": pod.runtime_class,
        "imagePullSecrets": [{"name": name} for name in pod.pull_secrets],
    }
    return said | {key: value for key, value in chosen.items() if value}


def _container(spec: LaunchSpec, kind: Profile, pod: PodSettings) -> dict[str, Any]:
    amounts = _amounts(kind)
    return {
        "name": CONTAINER,
        "image": pod.image,
        "command": [_literal(_filled(part, spec.worker_id, pod.port)) for part in kind.command],
        "env": _environment(spec, kind, pod.port),
        "ports": [{"name": "worker", "containerPort": pod.port}],
        # Equal, so that a worker gets what it was promised, and its neighbours what they were.
        "resources": {"requests": amounts, "limits": amounts},
        "readinessProbe": _probe(kind.readiness, pod.port, kind.connect_s, spec.worker_id),
        "securityContext": dict(_CONFINED),
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],  # noqa: S108 - a volume of the pod's own
    }


def _amounts(kind: Profile) -> dict[str, str]:
    return {"cpu": f"{kind.cpu}m", "memory": str(kind.memory)}


def _environment(spec: LaunchSpec, kind: Profile, port: int) -> list[dict[str, Any]]:
    digest = hashlib.sha256(spec.activation_key.encode()).hexdigest()
    return [
        *({"name": name, "value": _literal(value)} for name, value in kind.environment.items()),
        {"name": marks.POOL, "value": spec.pool_id},
        {"name": marks.WORKER, "value": str(spec.worker_id)},
        {"name": marks.PORT, "value": str(port)},
        {"name": marks.NODE, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": ADDRESS, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": marks.ENDPOINT, "value": f"http://$({ADDRESS}):{port}"},
        {"name": KEY_DIGEST, "value": digest},
    ]


def _probe(probe: Probe, port: int, connect_s: float, worker_id: int) -> dict[str, Any]:
    asked: dict[str, Any]
    match probe:
        case TcpProbe():
            asked = {"tcpSocket": {"port": port}}
        case HttpProbe():
            asked = {"httpGet": {"path": probe.path, "port": port}}
        case ExecProbe():
            asked = {"exec": {"command": [_filled(part, worker_id, port) for part in probe.command]}}
    # The nodes know whole seconds only.
    return asked | {"periodSeconds": max(1, round(probe.period_s)), "timeoutSeconds": max(1, math.ceil(connect_s))}


def _toleration(one: Toleration) -> dict[str, str]:
    return {key: value for key, value in one.model_dump().items() if value}


def _filled(part: str, worker_id: int, port: int) -> str:
    return part.replace("{python}", "python3").replace("{port}", str(port)).replace("{worker}", str(worker_id))


def _literal(text: str) -> str:
    """The text as it stands: the nodes would put variables in the place of ``$(NAME)``."""
    return text.replace("$(", "$$(")
