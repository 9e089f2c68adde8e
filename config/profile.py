"""A profile: one kind of worker, as an operator describes it."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from config.frozen import Frozen
from config.kubernetes import Pod
from config.quantity import cpu_millicores, memory_bytes

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Command = Annotated[tuple[str, ...], Field(min_length=1)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class TcpProbe(Frozen):
    """Ready once its port accepts a connection."""

    kind: Literal["tcp"] = "tcp"
    period_s: Seconds = 0.1


class HttpProbe(Frozen):
    """Ready once GET on its path answers 2xx."""

    kind: Literal["http"] = "http"
    path: str = Field(default="/ready", pattern=r"^/[!-~]*$")
    period_s: Seconds = 0.1


class ExecProbe(Frozen):
    """Ready once the command exits 0. It sees the worker's environment and STOKER_ENDPOINT."""

    kind: Literal["exec"] = "exec"
    command: Command
    period_s: Seconds = 1.0


class HttpCall(Frozen):
    """POST ``{"tenant", "epoch", "token"}`` to a path of the worker, with its activation key as bearer token; 2xx is yes."""

    kind: Literal["http"] = "http"
    path: str = Field(default="/activate", pattern=r"^/[!-~]*$")


class ExecCall(Frozen):
    """Run a command with STOKER_TENANT, _EPOCH, _TOKEN, _ENDPOINT and _ACTIVATION_KEY in its environment; exit 0 is yes."""

    kind: Literal["exec"] = "exec"
    command: Command


Probe = Annotated[TcpProbe | HttpProbe | ExecProbe, Field(discriminator="kind")]
Call = Annotated[HttpCall | ExecCall, Field(discriminator="kind")]


class Profile(Frozen):
    """A kind of worker: what runs, how many stay warm, and how long each phase of its life may take (seconds)."""

    # What a worker IS. These decide the canonical name: change one and it is another kind of worker.
    name: Name
    command: Command
    environment: dict[str, str] = Field(default_factory=dict)
    cpu: int = Field(default=100, gt=0)  # millicores; written as cores (0.5) or millicores (500m)
    memory: int = Field(default=2**28, gt=0)  # bytes; what a machine's capacity is divided by
    readiness: Probe = TcpProbe()
    activation: Call | None = None
    deactivation: Call | None = None
    kubernetes: Pod | None = None  # only that launcher reads it, and needs it

    # How many, and for how long. These may change under workers that live.
    floor: int = Field(default=0, ge=0, le=100_000)
    max_workers: int = Field(default=0, ge=0)  # 0 = unbounded: what it runs on is the ceiling
    hot_idle_s: float = Field(default=30.0, ge=0, le=86_400)
    idle_timeout_s: Seconds = 300.0
    lease_s: Seconds = 60.0
    ready_s: Seconds = 30.0
    connect_s: Seconds = 2.0
    activate_s: Seconds = 5.0
    spawn_budget_s: Seconds = 60.0
    stop_grace_s: Seconds = 5.0

    @field_validator("cpu", mode="before")
    @classmethod
    def _cpu(cls, value: str | float) -> int:
        return cpu_millicores(value)

    @field_validator("memory", mode="before")
    @classmethod
    def _memory(cls, value: str | int) -> int:
        return memory_bytes(value)

    @model_validator(mode="after")
    def _floor_fits_under_the_cap(self) -> Profile:
        if self.max_workers and self.floor > self.max_workers:
            msg = (
                f"profile {self.name}: floor {self.floor} is above max_workers {self.max_workers};"
                " raise max_workers or set it to 0"
            )
            raise ValueError(msg)
        return self

    @cached_property
    def canonical(self) -> str:
        """The exact name under which workers and claims match: the given name and a digest of what decides a worker.

        Amounts are compared as numbers and defaults are filled in, so ``16384Mi`` and ``16Gi`` are one profile, and a
        changed command is another: its old workers are never handed out again, they are reaped.
        """
        kind = self.model_dump(include=set(_IDENTITY), mode="json")
        if self.kubernetes is None:
            # Not there at all, so that the names of profiles that never heard of pods stay what they were.
            del kind["kubernetes"]
        else:
            del kind["kubernetes"]["headroom"]  # how many, and not what
        digest = hashlib.sha256(json.dumps(kind, sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.name}@{digest}"

    def spec(self) -> dict[str, Any]:
        """The profile as JSON, for the history."""
        return self.model_dump(mode="json")


_IDENTITY = ("name", "command", "environment", "cpu", "memory", "readiness", "activation", "deactivation", "kubernetes")
