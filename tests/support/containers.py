"""Containers without an engine for them: each service's own command as a process with the user, capabilities, read-only root,
mounts, secrets and environment that its file gives it, on one network of their own.

What it does not have of a container: limits of memory and processor, seccomp, and the images' own programs: Stoker's are this
checkout's, Valkey and PostgreSQL the embedded ones, Prometheus, redis-cli and wget this machine's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tasks.engines.binaries import postgres_programs, valkey_program
from tasks.engines.launch import User
from tests.support import boot

REPOSITORY = Path(__file__).resolve().parents[2]
USERS = {"postgres": (999, 999), "valkey": (998, 998)}  # by name in their images
NEEDED = ("unshare", "nsenter", "setpriv", "redis-cli", "prometheus", "wget")
OPEN = 0o755


@dataclass(frozen=True)
class Container:
    """What a file says of one, whatever the form of the file."""

    name: str
    argv: tuple[str, ...]
    health: tuple[str, ...]
    user: tuple[int, int]
    environment: Mapping[str, str] = field(default_factory=dict)
    capabilities: Sequence[str] = ()
    mounts: Sequence[tuple[str, str, bool]] = ()  # from (a name: a volume), to, writable
    scratch: Sequence[str] = ()
    secrets: Sequence[str] = ()
    read_only: bool = True
    no_new_privileges: bool = True


@dataclass
class Machine:
    """One machine with containers on it. When it ends, or whoever made it dies, nothing of it is left."""

    folder: Path
    pid: int
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, container: Container) -> None:
        log = self.log(container.name).open("ab")
        with log:
            self.running[container.name] = subprocess.Popen(
                self._command(container, container.argv), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def run(self, container: Container, argv: Sequence[str], *, given: str = "") -> subprocess.CompletedProcess[str]:
        """A command in the container, to its end."""
        return subprocess.run(
            self._command(container, argv), input=given, capture_output=True, text=True, timeout=60, check=False
        )

    def runs(self, container: Container) -> bool:
        return self.running[container.name].poll() is None

    def is_well(self, container: Container) -> bool:
        """By its own health check. An end of what it runs is no state to wait in."""
        assert self.runs(container), f"{container.name} has ended: {self.tail(container.name)}"
        return self.run(container, container.health).returncode == 0

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def has_said(self, container: Container, words: str) -> bool:
        return words in self.log(container.name).read_text(errors="replace")

    def tail(self, name: str) -> str:
        return self.log(name).read_text(errors="replace")[-2_000:]

    def _command(self, container: Container, argv: Sequence[str]) -> list[str]:
        plan = {
            "root": str(self.folder / "root"),
            "etc": _etc(),
            "binds": [*_programs(self.folder), *self._binds(container)],
            "read_only": container.read_only,
            "cwd": "/var/lib/stoker" if "/opt/stoker/bin" in container.environment["PATH"] else "/",
            "user": container.user,
            "capabilities": list(container.capabilities),
            "no_new_privileges": container.no_new_privileges,
            "environment": dict(container.environment),
            "argv": list(argv),
        }
        entered = ["nsenter", f"--target={self.pid}", "--net", "--pid", "--", "unshare", "--mount", "--"]
        return [*entered, sys.executable, "-I", boot.__file__, json.dumps(plan)]

    def _binds(self, container: Container) -> Iterator[tuple[str, str, bool]]:
        for path in container.scratch:
            yield str(self._own(container, f"scratch-{container.name}{path.replace('/', '-')}")), path, True
        for source, target, writable in container.mounts:
            if source.startswith("./"):
                yield str(REPOSITORY / source), target, writable
            else:  # a volume; a folder of the machine's is an empty one here
                yield str(self._own(container, f"volume-{source.strip('/').replace('/', '-')}")), target, writable
        for name in container.secrets:
            yield str(self.folder / "secrets" / name), f"/run/secrets/{name}", False

    def _own(self, container: Container, name: str) -> Path:
        folder = self.folder / name
        if not folder.exists():
            folder.mkdir()
            os.chown(folder, *container.user)
        return folder


@contextmanager
def machine() -> Iterator[Machine]:
    """An empty one, with fresh secrets as deploy/secrets.sh makes them."""
    with ExitStack() as down:
        folder = Path(tempfile.mkdtemp(prefix="stoker-containers-", dir="/var/tmp"))
        down.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(OPEN)
        subprocess.run(
            [REPOSITORY / "deploy" / "secrets.sh", folder / "secrets"], check=True, stdout=subprocess.DEVNULL
        )
        own = ("--net", "--mount", "--mount-proc", "--pid", "--fork", "--kill-child")
        # It ends when its input does: however this process ends, nothing of the machine outlives it.
        script = "ip link set lo up && echo up && exec cat"
        holder = down.enter_context(
            subprocess.Popen(["unshare", *own, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        assert holder.stdin is not None
        down.callback(holder.kill)
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        first = int(Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()[0])
        made = Machine(folder, first)
        try:
            yield made
        finally:
            holder.stdin.close()
            holder.wait(timeout=20)
            for process in made.running.values():
                process.wait(timeout=20)


def _etc() -> dict[str, str]:
    names = {"root": 0, "stoker": 10_001, **{name: user for name, (user, _) in USERS.items()}}
    return {
        "passwd": "".join(f"{name}:x:{number}:{number}::/:/bin/sh\n" for name, number in names.items()),
        "group": "".join(f"{name}:x:{number}:\n" for name, number in names.items()),
        "hosts": "127.0.0.1 localhost postgres valkey exporter flower prometheus grafana\n",
    }


def _programs(folder: Path) -> Iterator[tuple[str, str, bool]]:
    """This checkout and its interpreter where they are, its environment at /opt/stoker, the engines' programs at /engines."""
    engines = folder / "engines"
    postgres = postgres_programs(User(*USERS["postgres"]))
    if not engines.exists():
        engines.mkdir()
        (engines / "valkey-server").symlink_to(valkey_program())
        (engines / "valkey-cli").symlink_to("/usr/bin/redis-cli")
        for name in ("postgres", "initdb", "pg_isready"):
            (engines / name).symlink_to(postgres / name)
    places = {Path(sys.base_prefix), Path(sys.prefix), REPOSITORY, postgres.parents[2]}
    for place in sorted(places):
        if not place.is_relative_to("/usr"):
            yield str(place), str(place), False
    yield sys.prefix, "/opt/stoker", False
    yield str(engines), "/engines", False
