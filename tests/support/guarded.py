"""Engines as a deployment of several machines has them: a Valkey with the users of deploy/valkey."""

from __future__ import annotations

import shutil
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis

from tasks.engines.binaries import valkey_program
from tasks.engines.launch import end, launch
from tests.support.eventually import eventually
from tests.support.queue_servers import HOST, START_S, free_port, listens

SHIPPED = Path(__file__).resolve().parents[2] / "deploy" / "valkey"
# Beside those who are shipped, for the tests to look on.
WATCHER = "user watcher on nopass allkeys +@all\n"
# How a test calls its connections that ask for what they should be refused.
INTRUDER = "intruder"


@dataclass(frozen=True)
class Valkey:
    """One with users of its own."""

    port: int
    password: str
    log: Path

    @property
    def url(self) -> str:
        return f"redis://stoker:{quote(self.password, safe='')}@{HOST}:{self.port}/0"

    def watcher(self) -> redis.Redis:
        return redis.Redis(HOST, self.port, username="watcher", password="any", decode_responses=True)  # noqa: S106

    def stoker(self, name: str) -> redis.Redis:
        return redis.Redis(
            HOST, self.port, username="stoker", password=self.password, client_name=name, decode_responses=True
        )

    def refused(self) -> set[tuple[str, str]]:
        """What Stoker was refused: a command, a key or a channel, and which."""
        with self.watcher() as client:
            entries: Any = client.acl_log()
        return {
            (each["reason"], each["object"])
            for each in entries
            if each["username"] == "stoker" and each["reason"] != "auth" and each["client-info"]["name"] != INTRUDER
        }


@contextmanager
def valkey_with_users(folder: Path, password: str, *, also: str = "") -> Iterator[Valkey]:
    """Started by the script that deployments start it by; its user stoker may do this `also`."""
    port = free_port()
    folder.mkdir()
    served = shutil.copytree(SHIPPED, folder / "valkey")
    with (served / "users.acl").open("a") as users:
        users.write(f"{also}\n{WATCHER}")
    secret = folder / "password"
    secret.write_text(password)
    secret.chmod(stat.S_IRUSR)
    (folder / "valkey-server").symlink_to(valkey_program())
    child = launch(
        [str(served / "serve.sh"), "--port", str(port), "--bind", HOST, "--dir", str(folder)],
        log=folder / "log",
        env={"PATH": f"{folder}:/usr/bin:/bin", "VALKEY_PASSWORD_FILE": str(secret), "VALKEY_RUN_DIR": str(folder)},
        death_signal=signal.SIGKILL,
    )
    try:
        eventually(lambda: listens(port), "the server with users listens", within_s=START_S)
        yield Valkey(port, password, folder / "log")
    finally:
        end(child, grace_s=START_S)
