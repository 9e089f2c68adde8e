"""Workers that exist in the database alone: rows in any state, brought there by the statements that the tasks use."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from psycopg import sql

from config.settings import Settings
from scheduler.core.capacity import CapacityPlan
from scheduler.core.misses import MissReason
from scheduler.core.states import WorkerState
from scheduler.store import claims, launches, slots, tickets
from scheduler.store.claims import Claim
from scheduler.store.database import Database
from scheduler.store.slots import Slot

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
NO_TIME = timedelta(0)


class Fleet:
    """Workers of the profiles in force, on nodes by any name."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self.db = db
        self.settings = settings

    def profile(self, family: str = "echo") -> str:
        """The canonical name."""
        return self.settings.profiles[family].canonical

    def slots(self, count: int, family: str = "echo") -> list[Slot]:
        name = self.profile(family)
        return slots.create(self.db, name, lambda _, __: CapacityPlan(name, count, count), MINUTE)[1]

    def launched(self, count: int = 1, *, node: str = "node-1", family: str = "echo") -> list[int]:
        made = self.slots(count, family)
        for slot in made:
            self.launch(slot, node)
        return [slot.worker_id for slot in made]

    def launch(self, slot: Slot, node: str) -> bool:
        order = launches.take_order(self.db, slot.worker_id, slot.attempt, MINUTE)
        assert order is not None
        return launches.placed(self.db, order, handle(slot.worker_id), f"http://{node}:1", node)

    def ready(self, worker_id: int) -> tuple[WorkerState | None, tickets.Grant | None]:
        return launches.ready(self.db, worker_id, MINUTE)

    def idle(self, count: int = 1, *, node: str = "node-1", family: str = "echo") -> list[int]:
        workers = self.launched(count, node=node, family=family)
        for worker in workers:
            assert self.ready(worker)[0] is not None
        return workers

    def tenant(self, name: str, cap: int = 0) -> str:
        claims.admit_tenant(self.db, name, cap)
        return name

    def claim(self, tenant: str, *, family: str = "echo", waiter: str = "") -> Claim | MissReason:
        return claims.claim(self.db, tenant, self.profile(family), waiter=waiter, lease=MINUTE)

    def hold(self, tenant: str, *, family: str = "echo") -> Claim:
        """A claim that is bound."""
        self.tenant(tenant)
        claimed = self.claim(tenant, family=family)
        assert isinstance(claimed, Claim), claimed
        assert claims.activated(self.db, claimed, MINUTE)
        return claimed

    def release(self, claimed: Claim) -> str | None:
        row = claims.release(self.db, claimed.worker_id, claimed.epoch, claimed.tenant)
        return None if row is None else row["became"]

    def ticket(self, tenant: str, waiter: str, *, listens: bool = True, family: str = "echo") -> int:
        self.tenant(tenant)
        wake_key = f"wake:{waiter}" if listens else None
        taken = tickets.take(
            self.db, tenant, self.profile(family), waiter=waiter, wake_key=wake_key, ttl=MINUTE, at_most=1_000
        )
        assert taken is not None
        return taken

    def demand(self, family: str = "echo") -> int:
        seen = slots.look(self.db)
        assert seen is not None
        return seen.profiles[self.profile(family)].demand

    def state(self, worker_id: int) -> str:
        row = self.db.row("select state from workers where id = %(id)s", id=worker_id)
        assert row is not None
        return str(row["state"])

    def states(self, workers: Sequence[int]) -> list[str]:
        return [self.state(worker) for worker in workers]

    def snapshot(self) -> list[dict[str, object]]:
        """Every worker, tenant, ticket and ended claim: equal before and after what must change nothing."""
        return self.db.rows(
            "select 'worker' as what, to_jsonb(w) as row from workers w union all"
            " select 'tenant', to_jsonb(t) from tenants t union all"
            " select 'ticket', to_jsonb(k) from tickets k union all"
            " select 'claim', to_jsonb(c) from claims c order by 1, 2"
        )

    def backdate(self, column: str, worker_id: int, by: timedelta) -> None:
        """Let time pass for one column of one worker."""
        with self.db.connection() as connection:
            connection.execute(
                sql.SQL("update workers set {0} = {0} - %s where id = %s").format(sql.Identifier(column)),
                [by, worker_id],
            )


def handle(worker_id: int) -> dict[str, str | int]:
    """A handle that no launcher of this machine owns."""
    return {"host": "nowhere", "pid": worker_id, "started": "0"}
