"""What became of a spawn: told from reason codes of the API, of pods and of their conditions, never from a message's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from scheduler.core.backoff import Pace
from tasks.launchers.base import NOT_READY, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tasks.launchers.kubernetes.api import Refusal

# Nothing says more strictly what a pod is than the server's own JSON.
PodJson: TypeAlias = "Mapping[str, Any]"

UNSCHEDULABLE: Final = Outcome("unschedulable")
QUOTA: Final = Outcome("quota")
FORBIDDEN: Final = Outcome("forbidden", Pace.LONGEST)
INVALID: Final = Outcome("invalid", Pace.LONGEST)
NO_NAMESPACE: Final = Outcome("no_namespace", Pace.LONGEST)
NAME_TAKEN: Final = Outcome("name_taken", Pace.LONGEST)
IMAGE_PULL: Final = Outcome("image_pull")
CRASHED: Final = Outcome("crash_loop")
OUT_OF_MEMORY: Final = Outcome("out_of_memory")
# No fault of the profile's: the next spawn need not wait.
EVICTED: Final = Outcome("evicted", Pace.NONE)
NODE_LOST: Final = Outcome("node_lost", Pace.NONE)
DELETED: Final = Outcome("deleted", Pace.NONE)
REFUSED_BY_NODE: Final = Outcome("refused_by_node", Pace.NONE)
UNAVAILABLE: Final = Outcome("api_unavailable", Pace.NONE)
THROTTLED: Final = Outcome("api_throttled", Pace.NONE)

ALL: Final = (
    *(UNSCHEDULABLE, QUOTA, FORBIDDEN, INVALID, NO_NAMESPACE, NAME_TAKEN, IMAGE_PULL, CRASHED, OUT_OF_MEMORY),
    *(EVICTED, NODE_LOST, DELETED, REFUSED_BY_NODE, UNAVAILABLE, THROTTLED, NOT_READY),
)

# Of a container that does not run, by its `state.waiting.reason`. True: it will not run without somebody's help.
_WAITING: Final[Mapping[str, tuple[Outcome, bool]]] = {
    "ErrImagePull": (IMAGE_PULL, False),  # the node tries again
    "ImageInspectError": (IMAGE_PULL, False),
    "RegistryUnavailable": (IMAGE_PULL, False),
    "ImagePullBackOff": (IMAGE_PULL, True),  # it has, and waits longer each time
    "ErrImageNeverPull": (IMAGE_PULL, True),
    "InvalidImageName": (INVALID, True),
    "CreateContainerConfigError": (INVALID, True),
    "CreateContainerError": (INVALID, True),
    "RunContainerError": (INVALID, True),
    "CrashLoopBackOff": (CRASHED, True),
}
# Of a pod that has ended, by its `status.reason`, and by the reason of its condition DisruptionTarget.
_ENDED: Final[Mapping[str, Outcome]] = {
    "Evicted": EVICTED,
    "Preempting": EVICTED,
    "Terminated": EVICTED,
    "NodeShutdown": EVICTED,
    "Shutdown": EVICTED,
    "NodeLost": NODE_LOST,
    "OutOfcpu": REFUSED_BY_NODE,
    "OutOfmemory": REFUSED_BY_NODE,
    "OutOfpods": REFUSED_BY_NODE,
    "NodeAffinity": REFUSED_BY_NODE,
    "UnexpectedAdmissionError": REFUSED_BY_NODE,
    "PreemptionByScheduler": EVICTED,
    "PreemptionByKubeScheduler": EVICTED,
    "EvictionByEvictionAPI": EVICTED,
    "TerminationByKubelet": EVICTED,
    "DeletionByTaintManager": NODE_LOST,
    "DeletionByPodGC": NODE_LOST,
}
_OVER: Final = frozenset({"Failed", "Succeeded"})


@dataclass(frozen=True, slots=True)
class Standing:
    """How a pod stands on its way to ready: not yet for the sake of `waits_for`, or no more if `is_final`."""

    ready: bool = False
    waits_for: Outcome = NOT_READY
    is_final: bool = False
    detail: str = ""


VANISHED: Final = Standing(waits_for=DELETED, is_final=True, detail="it is gone")


def standing(pod: PodJson) -> Standing:
    """Whether it is ready; if not, what for; and whether waiting is of use."""
    status = pod.get("status") or {}
    if is_over(pod):
        return Standing(waits_for=ending(pod), is_final=True, detail=_ended_detail(pod))
    if pod["metadata"].get("deletionTimestamp"):
        return Standing(waits_for=ending(pod), is_final=True, detail="it is being deleted")
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    if _is_true(conditions.get("Ready")) and status.get("podIP"):
        return Standing(ready=True)
    scheduled = conditions.get("PodScheduled")
    if scheduled and scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return Standing(waits_for=UNSCHEDULABLE, detail=str(scheduled.get("message", "")))
    for container in _containers(status):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if (known := _WAITING.get(waiting.get("reason", ""))) is not None:
            return Standing(waits_for=known[0], is_final=known[1], detail=str(waiting.get("message", "")))
    return Standing(detail=f"phase {status.get('phase', 'unknown')}")


def is_over(pod: PodJson) -> bool:
    """Whether its container has ended for good: it is never started again."""
    return (pod.get("status") or {}).get("phase") in _OVER


def ending(pod: PodJson) -> Outcome:
    """Why a pod ended, or is being ended."""
    status = pod.get("status") or {}
    disrupted = next((c for c in status.get("conditions") or () if c["type"] == "DisruptionTarget"), None)
    reasons = [status.get("reason", ""), disrupted.get("reason", "") if _is_true(disrupted) and disrupted else ""]
    for reason in reasons:
        if (known := _ENDED.get(reason)) is not None:
            return known
    terminated = _terminated(status)
    if terminated is not None:
        return OUT_OF_MEMORY if terminated.get("reason") == "OOMKilled" else CRASHED
    return DELETED


def exit_code(pod: PodJson) -> int | None:
    """Of its container, where it has ended and the node has said so."""
    terminated = _terminated(pod.get("status") or {})
    return None if terminated is None else int(terminated.get("exitCode", 0))


def refused(refusal: Refusal, *, allowed: bool = True, over_quota: bool = False) -> Outcome:
    """Why the server did not create a pod.

    A quota's no and an admission's are one to the API: `Forbidden` both, and only in words another. So whoever asks has looked
    at the client's rights (`allowed`) and the namespace's quotas (`over_quota`).
    """
    if any(reason == "NamespaceTerminating" for reason, _ in refusal.causes):
        return NO_NAMESPACE
    match refusal.reason:
        case "Forbidden":
            return QUOTA if allowed and over_quota else FORBIDDEN
        case "Unauthorized":
            return FORBIDDEN
        case "NotFound":
            return NO_NAMESPACE
        case "Invalid" | "BadRequest":
            return INVALID
        case _:
            return UNAVAILABLE


def over_quota(quotas: Iterable[Mapping[str, Any]], need: Mapping[str, int]) -> bool:
    """Whether a pod of that need (pods, cpu in millicores, memory in bytes) would pass a quota."""
    for quota in quotas:
        status = quota.get("status") or {}
        used = status.get("used") or {}
        for resource, hard in (status.get("hard") or {}).items():
            name = resource.removeprefix("requests.").removeprefix("limits.").removeprefix("count/")
            if name in need and amount(used.get(resource, "0"), name) + need[name] > amount(hard, name):
                return True
    return False


def amount(quantity: str, resource: str) -> int:
    """A quantity of the API as a whole number: millicores of cpu, bytes or a count of all else."""
    text, factor = str(quantity), 1.0
    for suffix, times in _SUFFIXES.items():
        if text.endswith(suffix):
            text, factor = text.removesuffix(suffix), times
            break
    return round(float(text) * factor * (1_000 if resource == "cpu" else 1))


_SUFFIXES: Final[Mapping[str, float]] = {
    **{unit: 2.0 ** (10 * power) for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
    **{unit: 10.0 ** (3 * power) for power, unit in enumerate(("k", "M", "G", "T", "P", "E"), 1)},
    "m": 1e-3,
    "u": 1e-6,
    "n": 1e-9,
}


def _containers(status: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _terminated(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for container in status.get("containerStatuses") or ():
        if terminated := (container.get("state") or {}).get("terminated"):
            found: Mapping[str, Any] = terminated
            return found
    return None


def _ended_detail(pod: PodJson) -> str:
    status = pod.get("status") or {}
    code = exit_code(pod)
    return str(
        status.get("message") or status.get("reason") or (f"exited with {code}" if code is not None else "ended")
    )


def _is_true(condition: Mapping[str, Any] | None) -> bool:
    return condition is not None and condition.get("status") == "True"
