"""What a pod is and what becomes of it, decided from documents alone: no cluster is needed."""

from __future__ import annotations

import hashlib
from typing import Any

import kubernetes_validate
import pytest

from config.kubernetes import KubernetesLauncher as Cluster
from config.kubernetes import Pod, Toleration
from config.profile import ExecProbe, HttpProbe, Profile
from scheduler.core.backoff import Pace
from tasks.launchers.base import LaunchSpec, Outcome
from tasks.launchers.kubernetes import outcomes
from tasks.launchers.kubernetes.api import Refusal
from tasks.launchers.kubernetes.limits import Limits
from tasks.launchers.kubernetes.outcomes import amount, ending, over_quota, refused, standing
from tasks.launchers.kubernetes.pod import UNDISRUPTED, manifest, name_of
from tasks.launchers.kubernetes.room import plan_room
from tasks.launchers.kubernetes.stream import trimmed_node

IMAGE = "registry.example/worker@sha256:" + "0" * 64
PLACED = {
    "node_selector": {"pool": "warm"},
    "tolerations": (Toleration(key="warm", effect="NoSchedule"),),
    "priority_class": "workers",
    "runtime_class": "gvisor",
    "pull_secrets": ("registry",),
}


def profile(pod: Pod | None = None, **facts: Any) -> Profile:
    facts = {"command": ("{python}", "serve", "{port}", "{worker}"), "cpu": "500m", "memory": "1Gi", **facts}
    return Profile(name="duck", kubernetes=pod or Pod(image=IMAGE), **facts)


def document(kind: Profile, worker_id: int = 7, pool_id: str = "pool") -> dict[str, Any]:
    return manifest(LaunchSpec(worker_id, pool_id, kind, "the-key"), Cluster())


def pod(phase: str = "Pending", *, reason: str = "", conditions: Any = (), deleted: bool = False, **state: Any) -> Any:
    containers = [{"name": "worker", "state": state}] if state else []
    status = {"phase": phase, "reason": reason, "conditions": list(conditions), "containerStatuses": containers}
    return {"metadata": {"name": "p", **({"deletionTimestamp": "now"} if deleted else {})}, "status": status}


def condition(kind: str, status: str, reason: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason}


def test_a_worker_is_alone_without_rights_and_gets_what_it_asks_for() -> None:
    spec = document(profile())["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert (
        container["resources"]["requests"]
        == container["resources"]["limits"]
        == {
            "cpu": "500m",
            "memory": str(2**30),
        }
    )
    assert container["image"] == IMAGE
    assert container["command"] == ["python3", "serve", "8080", "7"]


@pytest.mark.parametrize("version", ["1.25", "1.37"])
def test_clusters_know_every_word_of_the_documents(version: str) -> None:
    kind = profile(Pod(image=IMAGE, headroom=1, **PLACED))
    for made in (document(kind), *plan_room([], [kind], "pool", ROOMY, at_most=1).create):
        kubernetes_validate.validate(made, version, strict=True)


def test_a_worker_that_ends_is_never_started_again_for_it_may_have_met_a_tenant() -> None:
    assert document(profile())["spec"]["restartPolicy"] == "Never"


def test_a_profile_says_where_its_pods_may_run() -> None:
    spec = document(profile(Pod(image=IMAGE, **PLACED)))["spec"]
    assert spec["nodeSelector"] == {"pool": "warm"}
    assert {"key": "warm", "operator": "Exists", "effect": "NoSchedule"} in spec["tolerations"]
    assert spec["priorityClassName"] == "workers"
    assert spec["runtimeClassName"] == "gvisor"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]


def test_a_node_that_is_silent_keeps_its_workers_for_as_long_as_the_profile_says() -> None:
    tolerations = document(profile(Pod(image=IMAGE, unreachable_s=9)))["spec"]["tolerations"]
    assert {one["tolerationSeconds"] for one in tolerations} == {9}


def test_the_document_holds_a_digest_of_the_activation_key_and_not_the_key() -> None:
    said = document(profile())
    assert "the-key" not in repr(said)
    (container,) = said["spec"]["containers"]
    environment = {one["name"]: one.get("value") for one in container["env"]}
    assert environment["STOKER_ACTIVATION_KEY_SHA256"] == hashlib.sha256(b"the-key").hexdigest()


def test_what_looks_like_a_variable_is_passed_on_as_it_stands() -> None:
    (container,) = document(profile(command=("echo", "$(HOME)"), environment={"A": "$(B)"}))["spec"]["containers"]
    assert container["command"] == ["echo", "$$(HOME)"]
    assert {"name": "A", "value": "$$(B)"} in container["env"]


def test_a_workers_pod_has_one_possible_name() -> None:
    assert document(profile())["metadata"]["name"] == name_of("pool", 7) == name_of("pool", 7)
    assert len({name_of(pool, worker) for pool in ("a", "b") for worker in (1, 2)}) == 4


@pytest.mark.parametrize(
    ("probe", "asks"),
    [
        (HttpProbe(path="/up"), {"httpGet": {"path": "/up", "port": 8080}}),
        (ExecProbe(command=("check", "{port}")), {"exec": {"command": ["check", "8080"]}}),
    ],
    ids=["http", "exec"],
)
def test_the_nodes_probe_in_whole_seconds(probe: Any, asks: dict[str, Any]) -> None:
    (container,) = document(profile(readiness=probe, connect_s=0.2))["spec"]["containers"]
    assert container["readinessProbe"] == {**asks, "periodSeconds": 1, "timeoutSeconds": 1}


@pytest.mark.parametrize(
    ("seen", "outcome", "is_final"),
    [
        (pod(conditions=[condition("PodScheduled", "False", "Unschedulable")]), outcomes.UNSCHEDULABLE, False),
        (pod(waiting={"reason": "ErrImagePull"}), outcomes.IMAGE_PULL, False),
        (pod(waiting={"reason": "ImagePullBackOff"}), outcomes.IMAGE_PULL, True),
        (pod(waiting={"reason": "InvalidImageName"}), outcomes.INVALID, True),
        (pod(waiting={"reason": "CreateContainerConfigError"}), outcomes.INVALID, True),
        (pod(waiting={"reason": "CrashLoopBackOff"}), outcomes.CRASHED, True),
        (pod(waiting={"reason": "ContainerCreating"}), outcomes.NOT_READY, False),
        (pod("Running", running={}), outcomes.NOT_READY, False),
        (pod("Failed", terminated={"exitCode": 3, "reason": "Error"}), outcomes.CRASHED, True),
        (pod("Failed", terminated={"exitCode": 137, "reason": "OOMKilled"}), outcomes.OUT_OF_MEMORY, True),
        (pod("Failed", reason="Evicted"), outcomes.EVICTED, True),
        (pod("Failed", reason="OutOfcpu"), outcomes.REFUSED_BY_NODE, True),
        (pod("Failed", reason="NodeLost"), outcomes.NODE_LOST, True),
        (
            pod("Failed", conditions=[condition("DisruptionTarget", "True", "DeletionByTaintManager")]),
            outcomes.NODE_LOST,
            True,
        ),
        (
            pod(deleted=True, conditions=[condition("DisruptionTarget", "True", "EvictionByEvictionAPI")]),
            outcomes.EVICTED,
            True,
        ),
        (pod(deleted=True), outcomes.DELETED, True),
    ],
)
def test_how_a_pod_stands_is_told_from_its_codes(seen: Any, outcome: Outcome, is_final: bool) -> None:  # noqa: FBT001
    found = standing(seen)
    assert (found.ready, found.waits_for, found.is_final) == (False, outcome, is_final)


def test_words_that_a_user_may_have_written_decide_nothing() -> None:
    shouted = pod(
        waiting={"reason": "ContainerCreating", "message": "ImagePullBackOff exceeded quota OOMKilled Evicted"}
    )
    assert standing(shouted).waits_for is outcomes.NOT_READY
    said = Refusal(403, "Forbidden", "exceeded quota: AlreadyExists")
    assert refused(said) is outcomes.FORBIDDEN


def test_ready_is_what_the_cluster_calls_ready_and_has_an_address() -> None:
    ready = pod("Running", conditions=[condition("Ready", "True")], running={})
    assert not standing(ready).ready
    ready["status"]["podIP"] = "10.0.0.7"
    assert standing(ready).ready


@pytest.mark.parametrize(
    ("refusal", "facts", "outcome"),
    [
        (Refusal(403, "Forbidden"), {"over_quota": True}, outcomes.QUOTA),
        (Refusal(403, "Forbidden"), {"over_quota": False}, outcomes.FORBIDDEN),
        (Refusal(403, "Forbidden"), {"allowed": False, "over_quota": True}, outcomes.FORBIDDEN),
        (Refusal(403, "Forbidden", causes=(("NamespaceTerminating", ""),)), {}, outcomes.NO_NAMESPACE),
        (Refusal(401, "Unauthorized"), {}, outcomes.FORBIDDEN),
        (Refusal(404, "NotFound"), {}, outcomes.NO_NAMESPACE),
        (Refusal(422, "Invalid"), {}, outcomes.INVALID),
        (Refusal(400, "BadRequest"), {}, outcomes.INVALID),
        (Refusal(418, "Teapot"), {}, outcomes.UNAVAILABLE),
    ],
)
def test_why_the_server_refused_is_told_from_its_codes(refusal: Refusal, facts: Any, outcome: Outcome) -> None:
    assert refused(refusal, **facts) is outcome


@pytest.mark.parametrize(
    ("hard", "used", "over"),
    [
        ({"pods": "3"}, {"pods": "3"}, True),
        ({"pods": "3"}, {"pods": "2"}, False),
        ({"requests.cpu": "1"}, {"requests.cpu": "600m"}, True),
        ({"requests.cpu": "1"}, {"requests.cpu": "500m"}, False),
        ({"limits.memory": "2Gi"}, {"limits.memory": "1025Mi"}, True),
        ({"count/pods": "1"}, {}, False),
        ({"services": "0"}, {"services": "0"}, False),
    ],
)
def test_a_quota_is_passed_by_what_is_used_and_what_is_needed(hard: Any, used: Any, over: bool) -> None:  # noqa: FBT001
    need = {"pods": 1, "cpu": 500, "memory": 2**30}
    assert over_quota([{"status": {"hard": hard, "used": used}}], need) is over


@pytest.mark.parametrize(
    ("written", "resource", "is_"),
    [
        ("250m", "cpu", 250),
        ("2", "cpu", 2_000),
        ("1Ki", "memory", 1_024),
        ("1500M", "memory", 1_500_000_000),
        ("7", "pods", 7),
    ],
)
def test_quantities_of_the_api_are_numbers(written: str, resource: str, is_: int) -> None:
    assert amount(written, resource) == is_


def test_each_outcome_has_a_name_of_its_own_and_says_what_follows() -> None:
    assert len({outcome.name for outcome in outcomes.ALL}) == len(outcomes.ALL)
    assert {outcome.name for outcome in outcomes.ALL if outcome.pace is Pace.LONGEST} == {
        "forbidden",
        "invalid",
        "no_namespace",
        "name_taken",
    }


def test_an_end_that_is_nobodys_fault_holds_up_no_further_spawn() -> None:
    assert ending(pod("Failed", reason="Evicted")).pace is Pace.NONE


def test_who_holds_a_worker_keeps_autoscalers_from_moving_it() -> None:
    assert set(UNDISRUPTED) == {"karpenter.sh/do-not-disrupt", "cluster-autoscaler.kubernetes.io/safe-to-evict"}


@pytest.mark.parametrize(
    ("spec", "ready", "closed"),
    [
        ({}, "True", False),
        ({"unschedulable": True}, "True", True),
        ({"taints": [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]}, "True", True),
        ({"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}, "True", True),
        ({"taints": [{"key": "team", "effect": "NoSchedule"}]}, "True", False),
        ({}, "Unknown", True),
        ({}, "False", True),
    ],
)
def test_a_node_that_is_cordoned_taken_away_or_silent_offers_no_worker(spec: Any, ready: str, closed: bool) -> None:  # noqa: FBT001
    seen = {"metadata": {"name": "n", "uid": "u"}, "spec": spec, "status": {"conditions": [condition("Ready", ready)]}}
    assert trimmed_node(seen)["closed"] is closed


ROOMY = Cluster(placeholder_image="pause@sha256:" + "1" * 64, placeholder_class="headroom")


def there(document: dict[str, Any], phase: str = "Running", **meta: Any) -> dict[str, Any]:
    """A placeholder as the server has it."""
    metadata = {**document["metadata"], "uid": f"uid-of-{document['metadata']['name']}", **meta}
    return {"metadata": metadata, "status": {"phase": phase}}


def room(kind: Profile, *pods: Any, at_most: int = 50) -> tuple[list[str], list[str]]:
    """Names created and deleted."""
    plan = plan_room(pods, [kind], "pool", ROOMY, at_most=at_most)
    return [document["metadata"]["name"] for document in plan.create], [name for name, _ in plan.delete]


def test_headroom_is_filled_and_taken_back() -> None:
    kind, without = profile(Pod(image=IMAGE, headroom=3)), profile()
    documents = plan_room([], [kind], "pool", ROOMY, at_most=50).create
    names = [document["metadata"]["name"] for document in documents]
    assert len(set(names)) == 3
    assert room(kind, *map(there, documents)) == ([], [])
    assert room(kind, *map(there, documents[:1])) == (names[1:], [])
    assert room(without, *map(there, documents)) == ([], names)
    assert room(kind, at_most=2) == (names[:2], [])


def test_a_placeholder_that_ended_or_is_of_an_earlier_size_makes_way_for_a_new_one() -> None:
    kind = profile(Pod(image=IMAGE, headroom=1))
    (document,) = plan_room([], [kind], "pool", ROOMY, at_most=50).create
    name = document["metadata"]["name"]
    assert room(kind, there(document, "Failed")) == ([], [name])
    assert room(kind, there(document, annotations={"stoker.dev/profile": "duck@old"})) == ([], [name])
    assert room(kind, there(document, deletionTimestamp="now")) == ([], []), "its name is taken until it is gone"


def test_a_placeholder_is_of_its_workers_size_gives_way_and_is_taken_for_no_worker() -> None:
    kind = profile(Pod(image=IMAGE, headroom=1, **PLACED))
    (made,) = plan_room([], [kind], "pool", ROOMY, at_most=50).create
    worker = document(kind)
    assert made["spec"]["priorityClassName"] == "headroom"
    assert made["spec"]["nodeSelector"] == worker["spec"]["nodeSelector"]
    assert made["spec"]["containers"][0]["resources"] == worker["spec"]["containers"][0]["resources"]
    assert "stoker.dev/pool" not in made["metadata"]["labels"]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_at_once_and_then_one_at_a_time() -> None:
    clock = Clock()
    limits = Limits(qps=10, burst=3, clock=clock)
    assert [limits.reserve(9) for _ in range(5)] == pytest.approx([0, 0, 0, 0.1, 0.2])
    clock.now += 10
    assert [limits.reserve(9) for _ in range(4)] == pytest.approx([0, 0, 0, 0.1])


def test_who_cannot_wait_so_long_takes_nothing() -> None:
    limits = Limits(qps=1, burst=1, clock=Clock())
    assert limits.reserve(0) == 0
    assert [limits.reserve(0.5) for _ in range(3)] == [None] * 3
    assert limits.reserve(2) == pytest.approx(1)


def test_a_server_that_is_overloaded_tells_one_of_many_for_all() -> None:
    clock = Clock()
    limits = Limits(qps=1_000, burst=1_000, clock=clock)
    limits.pause(3)
    assert limits.reserve(9) == pytest.approx(3)
    clock.now += 3
    assert limits.reserve(9) == 0
