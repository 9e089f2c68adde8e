"""compose.yaml as it is read: its services as containers that a test can start."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from tests.support.containers import REPOSITORY, USERS, Container

FILE = REPOSITORY / "compose.yaml"
DOCKERFILE = REPOSITORY / "Dockerfile"
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_VARIABLE = re.compile(r"\$\{\w+:-([^}]*)\}")
# What images bring that their services do not name.
FOREIGN = {"PATH": "/engines:/usr/bin:/bin", "PGDATA": "/var/lib/postgresql/18/docker", "LC_ALL": "C.UTF-8"}


def document() -> dict[str, Any]:
    """The file where no variable is set."""
    text = _VARIABLE.sub(r"\1", FILE.read_text())
    assert "${" not in text
    read: dict[str, Any] = yaml.safe_load(text)
    return read


def image_environment() -> dict[str, str]:
    """What the Dockerfile sets for all that runs in our image."""
    line = next(line for line in DOCKERFILE.read_text().splitlines() if line.startswith("ENV "))
    return dict(pair.split("=", 1) for pair in line.replace("$PATH", SYSTEM_PATH).split()[1:])


def container(services: Mapping[str, Any], name: str) -> Container:
    service = services[name]
    kind, *test = service.get("healthcheck", {}).get("test", ["CMD", "true"])
    given = image_environment() if "build" in service else FOREIGN
    return Container(
        name,
        argv=tuple(map(_plain, (*service.get("entrypoint", ()), *service["command"]))),
        health=tuple(test) if kind == "CMD" else ("sh", "-c", *map(_plain, test)),
        user=_user(service["user"]),
        environment={**given, **service.get("environment", {})},
        capabilities=service.get("cap_add", ()),
        mounts=[mount(text) for text in service.get("volumes", ())],
        scratch=[text.partition(":")[0] for text in service.get("tmpfs", ())],
        secrets=service.get("secrets", ()),
        read_only=service["read_only"],
        no_new_privileges="no-new-privileges:true" in service["security_opt"],
    )


def _plain(text: str) -> str:
    return text.replace("$$", "$")


def mount(text: str) -> tuple[str, str, bool]:
    """From, to, and whether it may be written."""
    source, target, *options = text.split(":")
    return source, target, options != ["ro"]


def _user(text: str) -> tuple[int, int]:
    if text in USERS:
        return USERS[text]
    user, _, group = text.partition(":")
    return int(user), int(group)
