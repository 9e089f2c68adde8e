"""Who is served next (I4): within a tenant first come first served, between tenants in rotation.

The model of what `grant_waiting` does in PostgreSQL. A tenant's turn is the later of its last grant and the arrival of its
oldest waiting claim; the earliest turn goes next. A turn never moves later while its tenant waits, and each tenant ahead
takes one turn before it falls behind, so nobody waits for more than one grant to each other tenant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Waiting:
    """A claim that waits. `asked` is any monotone stamp; `room` is how many more claims its tenant's cap allows (None: any)."""

    id: int
    tenant: str
    asked: float


def serving_order(
    waiting: Iterable[Waiting],
    last_grant: Mapping[str, float],
    room: Mapping[str, int | None],
    now: float,
    workers: int,
) -> list[int]:
    """Ids of the claims that get the next `workers` workers, in order."""
    queues: dict[str, list[Waiting]] = {}
    for ticket in sorted(waiting, key=lambda t: (t.asked, t.id)):
        queues.setdefault(ticket.tenant, []).append(ticket)
    turn = {tenant: max(last_grant.get(tenant, float("-inf")), queue[0].asked) for tenant, queue in queues.items()}
    left = dict(room)
    served: list[int] = []
    while len(served) < workers:
        able = [t for t, queue in queues.items() if queue and ((r := left.get(t)) is None or r > 0)]
        if not able:
            break
        tenant = min(able, key=lambda t: (turn[t], queues[t][0].id))
        served.append(queues[tenant].pop(0).id)
        # Later than any turn so far, and each grant of a round later than the one before it.
        turn[tenant] = now + len(served)
        allowed = left.get(tenant)
        if allowed is not None:
            left[tenant] = allowed - 1
    return served
