"""The processes of one machine's deployment, as data: Celery workers by role, beat, Flower and the exporter of metrics."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from config import by_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from config.settings import Settings

FLOWER_ADDRESS: Final = "127.0.0.1"
COMPANION_GRACE_S: Final = 10.0

NETWORK_CONCURRENCY: Final = 8

# What sends work stops before what does it: a beat that outlives the workers fills queues that nobody reads.
STOP_FIRST: Final = 0
STOP_AFTER: Final = 1


@dataclass(frozen=True)
class Role:
    """The queues that one Celery worker serves, and how many of their tasks at once."""

    queues: tuple[str, ...]
    concurrency: int


# Tasks at once. A worker of its own for the ticks: they must run when every other is full, for it is they that make room.
CONCURRENCY: Final[Mapping[str, int]] = {"control": 2, "spawn": 8, "user": 32}


def roles(settings: Settings) -> dict[str, Role]:
    """The workers of one machine, each with the queues that the settings give it, the first to be served first.

    And one that may change the networks of the nodes that this machine plays; a dry run needs no rights, and no worker of
    its own. A worker whose queues were all given to others is left out.
    """
    served = {name: tuple(q for q in settings.classes if settings.queues[q].worker == name) for name in CONCURRENCY}
    if settings.network.driver == "dry_run":
        served["user"] += settings.node_queues
    else:
        served["network"] = settings.node_queues
    limits = {**CONCURRENCY, "network": NETWORK_CONCURRENCY}
    return {name: Role(queues, limits[name]) for name, queues in served.items() if queues}


@dataclass(frozen=True)
class Service:
    """One process to keep running."""

    name: str
    argv: tuple[str, ...]  # its first part a full path
    env: Mapping[str, str] = field(default_factory=dict)  # added to this process's environment
    grace_s: float = COMPANION_GRACE_S  # between SIGTERM and SIGKILL
    node: str | None = None  # the name by which it answers Celery's ping, %h for the host; None = it does not
    stop_wave: int = STOP_FIRST  # waves stop one after the other, lowest first


def services(settings: Settings) -> list[Service]:
    """The services of `stoker up`. They find the same engines by the same settings file and the variables set here."""
    env = _environment(settings)
    return [
        *(_worker(name, role, env, settings.timeouts.shutdown_grace_s) for name, role in roles(settings).items()),
        # One sends, the other stands by.
        Service("beat", _celery("beat", "--loglevel", "INFO"), env),
        Service("beat-standby", _celery("beat", "--loglevel", "INFO"), env),
        # Its configuration reads the password from a file: arguments and environments can be read in the process table.
        Service("flower", _celery("flower"), env),
        Service("exporter", _stoker("exporter", f"--port={settings.exporter.port}"), env),
    ]


def _worker(name: str, role: Role, env: Mapping[str, str], grace_s: float) -> Service:
    node = f"{name}@%h"
    argv = _celery(
        "worker",
        *("-Q", ",".join(role.queues)),
        *("-n", node),
        # Tasks wait for workers, the database and the network: threads do that in one process.
        *("--pool", "threads"),
        *("-c", str(role.concurrency)),
        *("--loglevel", "INFO"),
        # Gossip elects and synchronises; no task here asks for either.
        "--without-gossip",
        # Events from the first task on: Flower and the exporter ask for them every few seconds, and what was before is unseen.
        "--task-events",
    )
    return Service(name, argv, env, grace_s, node=node, stop_wave=STOP_AFTER)


def _celery(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "celery", "-A", "tasks", *arguments)


def _stoker(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-c", "from tasks.cli import main; main()", *arguments)


def _environment(settings: Settings) -> dict[str, str]:
    given = {
        "STOKER_STATE_DIR": str(settings.locations.state_dir),
        # Whose secret came as a file, theirs comes by the same one, and stands in no environment.
        "STOKER_DATABASE_URL": None if by_file.is_named("database", os.environ) else settings.database_url,
        "STOKER_REDIS_URL": None if by_file.is_named("redis", os.environ) else settings.redis_url,
    }
    return {name: value for name, value in given.items() if value is not None}
