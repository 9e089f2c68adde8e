"""How many slots a profile needs now (I5 to I7). The idea of one action computed from one snapshot is Agones'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class CapacitySnapshot:
    """What is known of one profile at one instant. Counts of workers; `demand` counts distinct waiting claims.

    `idle` are those that a claim could have: of a closed node none, or they would stand in for workers that nobody gets.
    """

    profile: str
    idle: int
    spawning: int
    live: int
    demand: int
    max_workers: int = 0  # 0 = unbounded
    machine_room: int | None = None  # more workers that the launcher's machine can hold; None = unbounded
    backoff_until: datetime | None = None
    draining: bool = False


@dataclass(frozen=True, slots=True)
class CapacityPlan:
    """Slots to create, the deficit they answer, and what kept the two apart (None when nothing did)."""

    profile: str
    create: int
    deficit: int
    clipped_by: str | None = None


def plan_capacity(seen: CapacitySnapshot, floor: int, now: datetime, *, at_most: int) -> CapacityPlan:
    """Slots so that the floor and every waiting claim are met, counting what is already on its way.

    The whole deficit is planned at once, for a floor that refills slot by slot leaves a burst waiting. The floor is an
    argument and never derived from what was created before: a target written back as a floor compounds tick by tick.
    """
    deficit = max(0, floor + seen.demand - seen.idle - seen.spawning)
    if deficit == 0 or seen.draining:
        return CapacityPlan(seen.profile, 0, 0 if seen.draining else deficit, "draining" if seen.draining else None)
    if seen.backoff_until is not None and now < seen.backoff_until:
        return CapacityPlan(seen.profile, 0, deficit, "backoff")
    rooms: list[tuple[int, str]] = [(at_most, "slots_per_tick")]
    if seen.max_workers:
        rooms.append((max(0, seen.max_workers - seen.live), "max_workers"))
    if seen.machine_room is not None:
        rooms.append((max(0, seen.machine_room), "machine_memory"))
    room, reason = min(rooms)
    return CapacityPlan(seen.profile, min(deficit, room), deficit, reason if room < deficit else None)


def demand(waiting_by_tenant: dict[str, int], room_by_tenant: dict[str, int | None]) -> int:
    """Claims that more workers would serve: those of tenants under their cap, and no more than the cap leaves room for."""
    return sum(
        count if (room := room_by_tenant.get(tenant)) is None else min(count, max(0, room))
        for tenant, count in waiting_by_tenant.items()
    )
