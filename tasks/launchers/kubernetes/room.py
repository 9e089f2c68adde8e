"""Headroom: pods that do nothing and make way for workers, so that the cluster has a node for the next spike before it comes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.launchers.kubernetes.outcomes import is_over
from tasks.launchers.kubernetes.pod import placeholder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from config.kubernetes import KubernetesLauncher
    from config.profile import Profile


@dataclass(frozen=True, slots=True)
class RoomPlan:
    """Documents to create, and (name, uid) of pods to delete."""

    create: list[dict[str, Any]] = field(default_factory=list)
    delete: list[tuple[str, str]] = field(default_factory=list)


def plan_room(
    there: Iterable[Mapping[str, Any]],
    profiles: Iterable[Profile],
    pool_id: str,
    cluster: KubernetesLauncher,
    *,
    at_most: int,
) -> RoomPlan:
    """What is missing of each profile's headroom, and what is too much, of an earlier kind, or has ended.

    One that waits for a node stays: it is what makes the autoscaler bring one. Those that made way are made again, and so the
    room is there again one node's time later.
    """
    wanted = {
        document["metadata"]["name"]: document
        for kind in profiles
        if kind.kubernetes is not None
        for document in (placeholder(pool_id, kind, number, cluster) for number in range(kind.kubernetes.headroom))
    }
    kept, surplus = set(), []
    kind_of = f"{cluster.label_prefix}/profile"
    for one in there:
        meta = one["metadata"]
        if meta.get("deletionTimestamp"):
            kept.add(meta["name"])  # its name is taken until it is gone
            continue
        like = wanted.get(meta["name"])
        if like is None or is_over(one) or meta["annotations"].get(kind_of) != like["metadata"]["annotations"][kind_of]:
            surplus.append((meta["name"], meta["uid"]))
        kept.add(meta["name"])
    missing = [document for name, document in wanted.items() if name not in kept]
    return RoomPlan(missing[:at_most], surplus[:at_most])
