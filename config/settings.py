"""The settings of one deployment: config/stoker.toml, overridden by STOKER_* variables, checked as a whole."""

from __future__ import annotations

import os
import sys
from functools import cached_property
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from config.by_file import ENGINES, SecretFileError, engine_url
from config.frozen import Frozen, refuse_unknown_keys
from config.kubernetes import KubernetesLauncher
from config.ladder import broken_leases, broken_pods, broken_rungs
from config.locations import Locations
from config.names import DEFAULT_ROUTES, OPERATION_QUEUES, node_queue
from config.network import Network
from config.profile import Name, Profile, Seconds
from config.queues import DEFAULT_QUEUES, Queue, QueueName, broken_queues, completed
from config.schedule import Schedule, broken_entries
from config.urls import POSTGRES_SCHEMES, REDIS_SCHEMES, checked_url, completed_redis_url, redis_client_url

_LAST_PORT: Final = 65_535
DEFAULT_FILE: Final = Path(__file__).with_name("stoker.toml")


class SettingsError(ValueError):
    """The settings do not hold together. Nothing was started; the message names each key, its value and the remedy."""


class Tenant(Frozen):
    """What one tenant may do."""

    max_workers: int = Field(default=0, ge=0)  # claims held at once; 0 = no cap


class Tenants(Frozen):
    """Caps of the tenants named here, and what holds for all others."""

    admit_unknown: bool = True
    default_max_workers: int = Field(default=0, ge=0)
    caps: dict[Name, Tenant] = Field(default_factory=dict)


class Timeouts(Frozen):
    """Deadlines shared by all profiles, in seconds. The upper rungs of the ladder that config.ladder checks."""

    stuck_spawning_s: Seconds = 240.0
    task_soft_limit_s: Seconds = 300.0
    task_time_limit_s: Seconds = 360.0
    visibility_s: Seconds = 3600.0
    claim_wait_max_s: Seconds = 120.0
    waiter_ttl_s: Seconds = 6.0
    launch_lease_s: Seconds = 10.0
    orphan_grace_s: Seconds = 10.0
    shutdown_grace_s: Seconds = 40.0


class Backoff(Frozen):
    """How long a profile whose spawns fail is left alone: first, doubled by each further failed generation, at most max."""

    first_s: Seconds = 2.0
    max_s: Seconds = 300.0


class Bounds(Frozen):
    """The most that one step may do. Every batch, queue and wait has one."""

    slots_per_tick: int = Field(default=1_000, gt=0)
    grants_per_round: int = Field(default=256, gt=0)
    reap_per_tick: int = Field(default=100, gt=0)
    sweep_batch: int = Field(default=500, gt=0)
    tickets_per_tenant: int = Field(default=1_000, gt=0)
    waiters_per_process: int = Field(default=256, gt=0)
    message_bytes: int = Field(default=1_048_576, ge=16_384)  # a task's message in its queue; ours have about 1 kB


class History(Frozen):
    """How long the record of ended workers and claims is kept."""

    keep_s: float = Field(default=7 * 86_400.0, gt=0)


class Operations(Frozen):
    """How long a run of an operation's step may go without a sign of life, and how long one may go unseen, in seconds.

    A worker that dies leaves its lane taken for the lease; the sweep then finds its run, and whatever lost its message.
    """

    lease_s: Seconds = 15.0
    look_s: Seconds = 15.0
    followers_max: int = Field(default=100_000, gt=0)  # requests that one run may serve
    retries: int = Field(default=5, ge=0)  # of a step whose error may pass
    coalesce: bool = True  # off: operations submitted here share no runs (for measuring what folding is worth)


class ProcessLauncher(Frozen):
    """Workers as child processes of this machine."""

    first_port: int = Field(default=21_000, ge=1_024, le=_LAST_PORT)
    ports: int = Field(default=8_000, gt=0)
    memory_share: float = Field(default=0.8, gt=0, le=1)  # of this machine's memory, what workers may fill
    nice: int = Field(default=10, ge=0, le=19)  # how far workers stand back behind the control plane beside them
    simulated_node_size: int = Field(default=0, ge=0)  # workers a pretended node; 0 = one node, this machine

    @model_validator(mode="after")
    def _ports_exist(self) -> Self:
        if self.first_port + self.ports - 1 > _LAST_PORT:
            msg = f"launcher.process: first_port {self.first_port} + ports {self.ports} passes {_LAST_PORT}; lower one of them"
            raise ValueError(msg)
        return self


class Launcher(Frozen):
    """Where workers run."""

    kind: Literal["process", "kubernetes"] = "process"
    process: ProcessLauncher = ProcessLauncher()
    kubernetes: KubernetesLauncher = KubernetesLauncher()


class Flower(Frozen):
    """The web view of the Celery workers. Who knows its password may run, revoke and shut down whatever it shows."""

    port: int = Field(default=5555, ge=0, le=_LAST_PORT)
    address: IPv4Address = IPv4Address("127.0.0.1")
    url_prefix: str = Field(default="", pattern=r"^([A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*)?$")  # behind a proxy


class Exporter(Frozen):
    """Where Prometheus reads the metrics. Who may reach it reads them: it asks for no password."""

    port: int = Field(default=9465, ge=0, le=_LAST_PORT)  # 0 = any that is free
    address: IPv4Address = IPv4Address("127.0.0.1")


class Logs(Frozen):
    """How log lines are written."""

    format: Literal["console", "json"] = "console"  # json: one object a line, Celery's own lines too


class Traces(Frozen):
    """Where traces are sent. All else is OpenTelemetry's own: OTEL_* variables, sampling among them."""

    enabled: bool = False  # needs the extra `otel`
    endpoint: str = Field(
        default="", pattern=r"^(https?://[^\s]+)?$"
    )  # OTLP over HTTP; empty = OTEL_*, or localhost:4318


class Settings(BaseSettings):
    """Everything an operator sets. Frozen; built by `load`, which checks the whole before anything starts."""

    model_config = SettingsConfigDict(
        env_prefix="STOKER_",
        env_nested_delimiter="__",
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,  # a URL holds a password
        nested_model_default_partial_update=True,
    )

    database_url: str | None = None
    redis_url: str | None = None
    state_dir: Path = Path(".stoker")
    wake_ups: bool = True  # off: only the ticks move the pool (for measuring what wake-ups are worth)
    tenants: Tenants = Tenants()
    profiles: dict[Name, Profile] = Field(default_factory=dict)
    queues: dict[QueueName, Queue] = Field(default_factory=lambda: dict(DEFAULT_QUEUES))
    routes: dict[str, str] = Field(default_factory=lambda: dict(DEFAULT_ROUTES))  # task -> queue; "*" = all others
    schedule: Schedule = Schedule()
    timeouts: Timeouts = Timeouts()
    backoff: Backoff = Backoff()
    bounds: Bounds = Bounds()
    history: History = History()
    launcher: Launcher = Launcher()
    flower: Flower = Flower()
    exporter: Exporter = Exporter()
    logs: Logs = Logs()
    traces: Traces = Traces()
    # Not a default to be filled up: nodes that are named stand alone.
    network: Network = Field(default_factory=Network)
    operations: Operations = Operations()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - a .env file is no source: one place fewer to look
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over secrets by file, which win over STOKER_* variables, which win over the settings file."""
        toml = TomlConfigSettingsSource(settings_cls, toml_file=_chosen_file())
        urls = {
            key: engine_url(engine, env_settings().get(key) or toml().get(key), os.environ)
            for engine in ENGINES
            for key in [f"{engine}_url"]
        }
        by_file = InitSettingsSource(settings_cls, {key: url for key, url in urls.items() if url})
        return init_settings, by_file, env_settings, toml

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_sections(cls, values: Any) -> Any:  # noqa: ANN401 - pydantic hands over whatever the sources held
        refuse_unknown_keys(cls, values)
        return values

    @field_validator("profiles", mode="before")
    @classmethod
    def _name_profiles_by_their_key(cls, profiles: Any) -> Any:  # noqa: ANN401 - as read from the file
        if not isinstance(profiles, dict):
            return profiles
        return {name: {"name": name, **body} if isinstance(body, dict) else body for name, body in profiles.items()}

    @field_validator("redis_url")
    @classmethod
    def _complete_redis_url(cls, url: str | None) -> str | None:
        return url and completed_redis_url(checked_url("redis_url", url, REDIS_SCHEMES))

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, url: str | None) -> str | None:
        return url and checked_url("database_url", url, POSTGRES_SCHEMES)

    @field_validator("queues", mode="before")
    @classmethod
    def _over_the_default_queues(cls, queues: Any) -> Any:  # noqa: ANN401 - as read from the file
        return completed(queues) if isinstance(queues, dict) else queues

    @field_validator("routes", mode="before")
    @classmethod
    def _over_the_default_routes(cls, routes: Any) -> Any:  # noqa: ANN401 - as read from the file
        return {**DEFAULT_ROUTES, **routes} if isinstance(routes, dict) else routes

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        wrong = [rung for profile in self.profiles.values() for rung in broken_rungs(profile, self.timeouts)]
        if self.launcher.kind == "kubernetes":
            wrong += broken_pods(self.profiles.values(), self.launcher.kubernetes, self.timeouts)
        wrong += broken_leases(self.operations, self.schedule, self.timeouts)
        wrong += broken_queues(self.queues, self.routes)
        wrong += broken_entries(self.schedule, self.all_queues)
        if self.timeouts.claim_wait_max_s >= self.timeouts.task_soft_limit_s:
            wrong.append(
                f"timeouts.claim_wait_max_s = {self.timeouts.claim_wait_max_s:g} s must be less than "
                f"timeouts.task_soft_limit_s = {self.timeouts.task_soft_limit_s:g} s: a claim waits inside a task"
            )
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    @cached_property
    def locations(self) -> Locations:
        """Where the embedded engines and logs live."""
        return Locations.under(self.state_dir)

    @property
    def database_dsn(self) -> str:
        """The PostgreSQL to use: the one given, or the embedded one."""
        return self.database_url or self.locations.database_url

    @property
    def broker_url(self) -> str:
        """The Redis to use, as Celery writes it."""
        return self.redis_url or self.locations.redis_url

    @property
    def redis_client_url(self) -> str:
        """The Redis to use, as redis-py writes it."""
        return self.locations.redis_client_url if self.redis_url is None else redis_client_url(self.redis_url)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes of work, the one that is served first before the others."""
        return tuple(sorted(self.queues, key=lambda name: self.queues[name].rank))

    @cached_property
    def node_queues(self) -> tuple[str, ...]:
        """For each node the queues that operations are submitted in."""
        return tuple(node_queue(queue, node) for node in self.network.nodes for queue in OPERATION_QUEUES)

    @property
    def all_queues(self) -> tuple[str, ...]:
        """Every queue there is: the classes of work, then those of the nodes."""
        return (*self.classes, *self.node_queues)

    @property
    def ticket_ttl_s(self) -> float:
        """A ticket nobody renews lives two ticks, so that a caller who polls more often than that stays one demand (I4)."""
        return 2 * self.schedule.reconcile_s

    def tenant_cap(self, tenant: str) -> int:
        """Claims that the tenant may hold at once; 0 = no cap."""
        named = self.tenants.caps.get(tenant)
        return named.max_workers if named else self.tenants.default_max_workers

    def profile(self, name: str) -> Profile | None:
        """The profile of that given or canonical name."""
        return self.profiles.get(name) or next((p for p in self.profiles.values() if p.canonical == name), None)


def load(**overrides: Any) -> Settings:  # noqa: ANN401 - any setting by its name
    """Read and check the settings.

    Raises:
        SettingsError: a file, a variable or their combination is wrong. One line a fault, each with its remedy.
    """
    path = _chosen_file()
    if not path.is_file():
        msg = f"settings file: expected a file at {path}, found none; set STOKER_CONFIG to your stoker.toml or unset it"
        raise SettingsError(msg)
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, fault['loc'])) or path.name}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        ]
        raise SettingsError("\n".join(lines)) from error
    except SecretFileError as error:
        raise SettingsError(str(error)) from error
    except ValueError as error:  # not TOML
        msg = f"{path}: {error}; mend the file and run `stoker doctor`"
        raise SettingsError(msg) from error


def python_command(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command with ``{python}`` replaced by this interpreter, so that a profile needs no path of a machine."""
    return tuple(part.replace("{python}", sys.executable) for part in command)


def _chosen_file() -> Path:
    return Path(os.environ.get("STOKER_CONFIG") or DEFAULT_FILE)
