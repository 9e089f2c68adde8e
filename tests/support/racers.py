"""What the processes of a crowd do, each on a connection of its own."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta

from scheduler.core.capacity import plan_capacity
from scheduler.core.misses import MissReason
from scheduler.core.operations import Place, RunState, Step, plan
from scheduler.core.schedule import Tick
from scheduler.store import beat, claims, launches, operations, reaping, slots, tallies
from scheduler.store.claims import Claim
from scheduler.store.database import Database
from scheduler.store.entries import Entry
from scheduler.store.migrate import migrate

MINUTE = timedelta(minutes=1)


def claim(url: str, tenant: str, profile: str) -> tuple[int, int] | str:
    """The worker and epoch that this process got, or why it got none."""
    with closing(Database(url)) as db:
        found = claims.claim(db, tenant, profile, waiter="", lease=MINUTE)
    return (found.worker_id, found.epoch) if isinstance(found, Claim) else MissReason(found).value


def release(url: str, tenant: str, worker_id: int, epoch: int) -> bool:
    with closing(Database(url)) as db:
        return claims.release(db, worker_id, epoch, tenant) is not None


def reconcile(url: str, profile: str, floor: int) -> int:
    """Slots that this process created."""
    with closing(Database(url)) as db:
        made = slots.create(db, profile, lambda seen, all_: plan_capacity(seen, floor, all_.now, at_most=1_000), MINUTE)
    return len(made[1])


def take_order(url: str, worker_id: int, attempt: int) -> bool:
    with closing(Database(url)) as db:
        return launches.take_order(db, worker_id, attempt, MINUTE) is not None


def reap(url: str, profile: str, victims: list[int], floor: int) -> list[int]:
    with closing(Database(url)) as db:
        return reaping.drain_idle(db, profile, victims, floor, timedelta(0), "test")


def claim_tick(url: str, entry: Entry, tick: Tick, epoch: int) -> bool:
    """Whether this process claimed the tick that all of them saw."""
    with closing(Database(url)) as db, db.connection() as connection:
        return beat.claim(connection, entry, tick, epoch) is not None


def bring_up_to_date(url: str) -> None:
    migrate(url)


def come_and_go(url: str, tenant: str, profile: str, rounds: int) -> int:
    """Claims held and released, one after the other; a miss counts for nothing."""
    held = 0
    with closing(Database(url)) as db:
        for _ in range(rounds):
            found = claims.claim(db, tenant, profile, waiter="", lease=MINUTE)
            if isinstance(found, Claim) and claims.activated(db, found, MINUTE):
                held += 1
                assert claims.release(db, found.worker_id, found.epoch, tenant) is not None
    return held


def change_caps(url: str, tenant: str, caps: list[int]) -> int:
    """Set the tenant's cap to each in turn; the last stays."""
    with closing(Database(url)) as db:
        for cap in caps:
            db.rows("select set_cap(%(tenant)s, %(cap)s)", tenant=tenant, cap=cap)
    return len(caps)


def submit_refresh(url: str, target: str) -> tuple[int, bool]:
    """The operation that this process was given, and whether it wrote it."""
    steps = plan([Step("step.dns", {"network": target})])
    with closing(Database(url)) as db:
        found = db.transaction(
            lambda connection: operations.submit(connection, "refresh", target, queue="q", rank=2, plan=steps)
        )
    return found.id, found.is_new


def begin_step(url: str, operation: int, token: str, lane: str) -> str:
    """Whether this process's step began."""
    with closing(Database(url)) as db:
        return _begin(db, Place(operation, 0, token), lane).verdict


def run_to_the_end(url: str, operation: int, token: str) -> list[int]:
    """Both steps of an operation; the operations that its end lets go."""
    released: list[operations.Released] = []
    with closing(Database(url)) as db:
        for position in range(2):
            place = Place(operation, position, token)
            begun = _begin(db, place, f"of {operation}")
            released = operations.end_run(db, begun.run, RunState.SUCCEEDED, [place], [{"how": "ran"}]) or []
    return [one.id for one in released]


def _begin(db: Database, place: Place, lane: str) -> operations.BegunRun:
    return operations.begin_run(
        db,
        [place],
        task_id=f"op{place.operation}.{place.position}",
        task="step.dns",
        key="key",
        lane=lane,
        queue="q",
        attempt=1,
        lane_wait_s=0.0,
        lease=MINUTE,
    )


def count_ended(url: str, at_once: int) -> int:
    """How many runs and operations this process has counted, until there were no more."""
    whole = 0
    with closing(Database(url)) as db:
        while counted := tallies.count_ended(db, at_once):
            whole += counted
    return whole
