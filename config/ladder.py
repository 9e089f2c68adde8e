"""The ladder of deadlines (I8): each outlasts what it contains, or a healthy spawn is killed by its own supervisor."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.profile import Profile
    from config.settings import Timeouts


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
