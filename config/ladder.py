"""The ladders of deadlines: each outlasts what it contains, or a healthy spawn or run is given up by its own supervisor (I8)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
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
