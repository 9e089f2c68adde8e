"""The two ways to the pool: the library in this process, and its Celery tasks by name. They lead to the same workers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

from config.names import CLAIM_TASK, RELEASE_TASK, RENEW_TASK
from scheduler.core.misses import MissReason
from tasks.pool import Held, Miss

if TYPE_CHECKING:
    from celery import Celery

    from config.settings import Settings
    from tasks.pool import Pool

PROFILE: Final = "duckdb"
ANSWER_S_MAX: Final = 30.0


class Door(Protocol):
    """Claim, renew and release, by whatever way."""

    @property
    def name(self) -> str:
        """The way, as the report calls it."""
        ...

    def claim(self, tenant: str, wait_s: float) -> Held | Miss:
        """Take a worker, waiting at most so long."""
        ...

    def renew(self, held: Held) -> bool:
        """Keep it. False: the claim has ended."""
        ...

    def release(self, held: Held) -> str | None:
        """Give it back; what it became. None: the claim had ended."""
        ...


class LibraryDoor:
    """`tasks.pool.Pool`, called in this process."""

    name: Final = "library"

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def claim(self, tenant: str, wait_s: float) -> Held | Miss:
        """As `Door.claim`."""
        return self._pool.claim(tenant, PROFILE, wait_s=wait_s)

    def renew(self, held: Held) -> bool:
        """As `Door.renew`."""
        return self._pool.renew(held.tenant, held.worker_id, held.epoch, held.profile)

    def release(self, held: Held) -> str | None:
        """As `Door.release`."""
        return self._pool.release(held.tenant, held.worker_id, held.epoch)


class CeleryDoor:
    """`app.send_task("pool.claim", ...)`, as any Celery client in any language would."""

    name: Final = "celery"

    def __init__(self, app: Celery, settings: Settings) -> None:
        self._app = app
        self._routes = settings.routes
        # A result consumer listens for one thread at a time.
        self._turn = threading.Lock()

    def claim(self, tenant: str, wait_s: float) -> Held | Miss:
        """As `Door.claim`."""
        answer = self._call(CLAIM_TASK, tenant, PROFILE, wait_s)
        if answer.pop("outcome") == "held":
            return Held(**answer)
        return Miss(tenant, PROFILE, MissReason(answer["reason"]))

    def renew(self, held: Held) -> bool:
        """As `Door.renew`."""
        return bool(self._call(RENEW_TASK, held.tenant, held.worker_id, held.epoch, held.profile))

    def release(self, held: Held) -> str | None:
        """As `Door.release`."""
        became: str | None = self._call(RELEASE_TASK, held.tenant, held.worker_id, held.epoch)
        return became

    def _call(self, task: str, *args: object) -> Any:  # noqa: ANN401 - the task's own result
        with self._turn:
            sent = self._app.send_task(task, args=args, queue=self._routes[task])
            try:
                return sent.get(timeout=ANSWER_S_MAX)
            finally:
                # A claim's result holds its token: it must not lie in Redis until it expires.
                sent.forget()
