"""The ladders of deadlines: each outlasts what it contains, or a healthy spawn or run is given up by its own supervisor (I8)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from config.kubernetes import KubernetesLauncher
    from config.profile import Profile
    from config.schedule import Schedule
    from config.settings import Operations, Timeouts

# What a worker that died had in hand is in another's within this: its lease ends, a sweep finds it, another may look.
HANDED_OVER_S: Final = 60.0


def broken_rungs(profile: Profile, timeouts: Timeouts) -> list[str]:
    """Every pair of neighbouring deadlines in the wrong order, each named with both values; empty when the ladder holds."""
    parts = profile.ready_s + profile.connect_s + profile.activate_s
    rungs = [
        (
            (
                f"profiles.{profile.name}: ready_s {profile.ready_s:g} + connect_s {profile.connect_s:g} + "
                f"activate_s {profile.activate_s:g}"
            ),
            parts,
        ),
        (f"profiles.{profile.name}.spawn_budget_s", profile.spawn_budget_s),
        ("timeouts.stuck_spawning_s", timeouts.stuck_spawning_s),
        ("timeouts.task_soft_limit_s", timeouts.task_soft_limit_s),
        ("timeouts.task_time_limit_s", timeouts.task_time_limit_s),
        ("timeouts.visibility_s", timeouts.visibility_s),
    ]
    return [
        f"{inner} = {inner_s:g} s must be less than {outer} = {outer_s:g} s; raise the second or lower the first"
        for (inner, inner_s), (outer, outer_s) in itertools.pairwise(rungs)
        if not inner_s < outer_s
    ]


def broken_pods(profiles: Iterable[Profile], cluster: KubernetesLauncher, timeouts: Timeouts) -> list[str]:
    """What a cluster needs beyond that: an image of each profile, and deadlines that a node still to be made can keep."""
    wrong = []
    for profile in profiles:
        if profile.kubernetes is None:
            wrong.append(
                f"profiles.{profile.name}: launcher.kind = 'kubernetes' expects [profiles.{profile.name}.kubernetes] with an"
                " image, got none; add it, or set launcher.kind to 'process'"
            )
        elif profile.kubernetes.headroom and not (cluster.placeholder_image and cluster.placeholder_class):
            wrong.append(
                f"profiles.{profile.name}.kubernetes.headroom = {profile.kubernetes.headroom} expects"
                " launcher.kubernetes.placeholder_image and placeholder_class; set both, or headroom to 0"
            )
        if cluster.node_arrives_s >= profile.ready_s:
            wrong.append(
                f"launcher.kubernetes.node_arrives_s = {cluster.node_arrives_s:g} s must be less than"
                f" profiles.{profile.name}.ready_s = {profile.ready_s:g} s: a spawn that needs a new node would be given up"
                " before that node is there, each time; raise the second, and what outlasts it, or lower the first"
            )
    if cluster.request_s >= timeouts.launch_lease_s:
        wrong.append(
            f"launcher.kubernetes.request_s = {cluster.request_s:g} s must be less than timeouts.launch_lease_s ="
            f" {timeouts.launch_lease_s:g} s: another launches what is under way; raise the second or lower the first"
        )
    return wrong


def broken_leases(operations: Operations, schedule: Schedule, timeouts: Timeouts) -> list[str]:
    """What keeps the steps of dead workers from being handed over in time, or living ones from being let alone."""
    lease_s, look_s, sweep_s = operations.lease_s, operations.look_s, schedule.sweep_s
    soft_s, visible_s = timeouts.task_soft_limit_s, timeouts.visibility_s
    parts = f"operations.lease_s {lease_s:g} + schedule.sweep_s {sweep_s:g} + operations.look_s {look_s:g}"
    in_all_s = lease_s + sweep_s + look_s
    wrong = []
    if in_all_s > HANDED_OVER_S:
        wrong.append(
            f"{parts} = {in_all_s:g} s must be at most {HANDED_OVER_S:g} s, in which the step of a worker that died is"
            " handed over; lower one of them"
        )
    if lease_s >= soft_s:
        wrong.append(
            f"operations.lease_s = {lease_s:g} s must be less than timeouts.task_soft_limit_s = {soft_s:g} s:"
            " a lease is renewed while a step runs; raise the second or lower the first"
        )
    if in_all_s >= visible_s:
        wrong.append(
            f"{parts} = {in_all_s:g} s must be less than timeouts.visibility_s = {visible_s:g} s: the sweep knows that a run"
            " has died, the broker only that it took long; raise the second or lower one of the first"
        )
    return wrong
