"""What every launcher does: start, find, list, watch and end the workers of a pool on one platform."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from config.profile import Profile

Handle: TypeAlias = "Mapping[str, str | int]"


class LaunchError(Exception):
    """A launcher could not do what it was asked: what, what was expected, what was got, and the remedy."""

    def __init__(self, what: str, expected: str, got: str, remedy: str) -> None:
        # All four go to `args`, so that the error survives the pickling between a Celery child and its parent.
        super().__init__(what, expected, got, remedy)
        self.what, self.expected, self.got, self.remedy = what, expected, got, remedy

    def __str__(self) -> str:
        return f"{self.what}: expected {self.expected}, got {self.got}; {self.remedy}"


class LaunchTemporary(LaunchError):  # noqa: N818 - named after what to do about it
    """The platform is short of something just now (processes, ports, quota): the same call may succeed later."""


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
    """Where a worker runs."""

    handle: dict[str, str | int]  # JSON: whatever its launcher needs to find it again
    endpoint: str  # "http://127.0.0.1:21007"
    node: str


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

    def capacity(self, profile: Profile) -> int | None:
        """The most workers of the profile that this platform can hold in all.

        None = unbounded: the platform's autoscaler is the ceiling.
        """
        ...

    def launch(self, spec: LaunchSpec) -> Placement:
        """Start the worker and return at once: whether it becomes ready is another question.

        Raises:
            LaunchTemporary: the platform is short of something; retry later.
            LaunchPermanent: the profile cannot run here.
        """
        ...

    def find(self, pool_id: str, worker_id: int) -> Placement | None:
        """The worker that an earlier launch did create although its answer was lost; None when there is none."""
        ...

    def list(self, pool_id: str) -> list[Running]:
        """Every worker of the pool that this launcher can see, whoever started it; one entry a worker."""
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

    async def wait_exit(self, handle: Handle) -> int | None:
        """Return when the worker is gone, with its exit code where that can be known.

        Raises:
            ForeignHandle: only another host can tell.
        """
        ...

    async def stop(self, handle: Handle, pool_id: str, worker_id: int, grace_s: float) -> None:
        """End the worker and all that it started: ask, wait `grace_s` seconds, insist. Idempotent.

        Raises:
            ForeignHandle: only another host can do it.
            LaunchTemporary: it outlived even that; call again.
        """
        ...
