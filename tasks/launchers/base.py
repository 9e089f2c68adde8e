"""What every launcher does: start, find, list, watch and end the workers of a pool on one platform."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from scheduler.core.backoff import Pace

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Mapping

    from config.profile import Profile

Handle: TypeAlias = "Mapping[str, str | int]"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a spawn came to nothing, in the word that events and metrics have for it, and what follows for the next ones."""

    name: str
    pace: Pace = Pace.GROWING


LAUNCH_FAILED: Final = Outcome("launch_failed")
NOT_READY: Final = Outcome("not_ready")
EXITED: Final = Outcome("exited")
NODE_CLOSED: Final = Outcome("node_closed")
STUCK: Final = Outcome("stuck_spawning")
NO_PROFILE: Final = Outcome("profile_not_in_settings")


class LaunchError(Exception):
    """A launcher could not do what it was asked: what, what was expected, what was got, and the remedy."""

    def __init__(self, what: str, expected: str, got: str, remedy: str, outcome: Outcome = LAUNCH_FAILED) -> None:
        # All go to `args`, so that the error survives the pickling between a Celery child and its parent.
        super().__init__(what, expected, got, remedy, outcome)
        self.what, self.expected, self.got, self.remedy, self.outcome = what, expected, got, remedy, outcome

    def __str__(self) -> str:
        return f"{self.what}: expected {self.expected}, got {self.got}; {self.remedy}"


class LaunchTemporary(LaunchError):  # noqa: N818 - named after what to do about it
    """The platform is short of something just now (processes, ports, quota): the same call may succeed later."""


class LaunchUnknown(LaunchTemporary):
    """No answer, so the worker may be there. Its slot is launched again, and finds it: whoever gave it up would lose it."""


class LaunchPermanent(LaunchError):  # noqa: N818
    """It fails in the same way until a person changes the profile or the platform."""


class ForeignHandle(LaunchPermanent):
    """The handle is of another host, where only that host's launcher can see the worker. Ask `owns` first."""


@dataclass(frozen=True)
class LaunchSpec:
    """The worker to start."""

    worker_id: int
    pool_id: str
    profile: Profile
    activation_key: str = field(repr=False)


@dataclass(frozen=True)
class Placement:
    """Where a worker runs. Some platforms tell the last two only when it is ready."""

    handle: dict[str, str | int]  # JSON: whatever its launcher needs to find it again
    endpoint: str | None  # "http://127.0.0.1:21007"
    node: str | None


@dataclass(frozen=True)
class Starting:
    """A worker that was launched and is to become ready."""

    worker_id: int
    profile: Profile
    handle: Handle
    endpoint: str | None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a worker ended: its exit code where that can be known, and by what."""

    code: int | None
    outcome: Outcome = EXITED

    def __str__(self) -> str:
        told = f" with {self.code}" if self.code is not None else ""
        return f"exited{told}" if self.outcome is EXITED else f"{self.outcome.name}{told and f' (exited{told})'}"


@dataclass(frozen=True)
class Running:
    """A worker that the platform runs and that carries the pool's mark."""

    worker_id: int
    handle: dict[str, str | int]
    age_s: float


class Launcher(Protocol):
    """One platform. Safe to call from many threads; remembers nothing that a restart would lose."""

    @property
    def name(self) -> str:
        """The platform, as settings and the history call it."""
        ...

    def close(self) -> None:
        """End what runs in this process for it. Workers live on."""
        ...

    def capacity(self, profile: Profile) -> int | None:
        """The most workers of the profile that this platform can hold in all.

        None = unbounded: the platform's autoscaler is the ceiling.
        """
        ...

    def launch(self, spec: LaunchSpec) -> Placement:
        """Start the worker and return at once: whether it becomes ready is another question.

        Raises:
            LaunchTemporary: the platform is short of something; retry later.
            LaunchUnknown: no answer; launch again, and what is there is found.
            LaunchPermanent: the profile cannot run here.
        """
        ...

    def find(self, pool_id: str, worker_id: int) -> Placement | None:
        """The worker that an earlier launch did create although its answer was lost; None when there is none."""
        ...

    def list(self, pool_id: str) -> list[Running]:
        """Every worker of the pool that this launcher can see, whoever started it; one entry a worker."""
        ...

    def keep_room(self, pool_id: str, profiles: Iterable[Profile]) -> int:
        """Keep the headroom that the profiles ask for, where the platform has to make room; changes made.

        Raises:
            LaunchError: it could not; the next call goes on from there.
        """
        ...

    def alive(self, handle: Handle) -> bool:
        """Whether exactly this worker runs. Something else under its old name or number is not it.

        Raises:
            ForeignHandle: only another host can tell.
        """
        ...

    def owns(self, handle: Handle) -> bool:
        """Whether this launcher can see and act on the handle's worker."""
        ...

    async def wait_ready(self, starting: Starting, nudge: asyncio.Event, within_s: float) -> Placement | None:
        """Return when the worker answers; with where it is, if the launch could not tell.

        `nudge` is set by whoever has reason to think that it is ready now.

        Raises:
            LaunchError: it is not ready after `within_s` seconds, or never will be; its outcome says why.
        """
        ...

    async def wait_exit(self, handle: Handle) -> Exit:
        """Return when the worker is gone.

        Raises:
            ForeignHandle: only another host can tell.
        """
        ...

    async def protect(self, handle: Handle, *, claimed: bool) -> None:
        """Tell the platform whether somebody uses the worker, so that it moves none that is used. Often said, rarely news."""
        ...

    async def wait_cordons(self, known: Mapping[str, bool]) -> dict[str, bool]:
        """Return when the platform's nodes, or whether they take no further workers, are other than is known.

        Never returns where the platform has no say in that.
        """
        ...

    async def stop(self, handle: Handle, pool_id: str, worker_id: int, grace_s: float) -> None:
        """End the worker and all that it started: ask, wait `grace_s` seconds, insist. Idempotent.

        Raises:
            ForeignHandle: only another host can do it.
            LaunchTemporary: it outlived even that; call again.
        """
        ...
