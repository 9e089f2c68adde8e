"""Settings for tests: a file of their own, with small profiles of workers that start fast."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from config.settings import Settings, load

Document = dict[str, Any]


def echo(*, ready_after_s: float = 0.0, **facts: Any) -> Document:
    """A profile of echo workers: the demo's contract without its engine. -S: they need nothing that site finds."""
    return {
        "command": ["{python}", "-S", "-m", "demo.echo_server"],
        "environment": {"STOKER_DEMO_READY_DELAY_S": str(ready_after_s)},
        "memory": "8Mi",
        "readiness": {"kind": "http", "path": "/ready"},
        "activation": {"kind": "http", "path": "/activate"},
        "deactivation": {"kind": "http", "path": "/deactivate"},
        "stop_grace_s": 1.0,
        **facts,
    }


def write(path: Path, document: Document) -> Path:
    """The document as a settings file."""
    path.write_text("".join(f"{json.dumps(key)} = {_toml(value)}\n" for key, value in document.items()))
    return path


@contextmanager
def in_force(path: Path) -> Iterator[None]:
    """For the time of the block, `load` reads this file, in this process and in those it starts."""
    before = os.environ.get("STOKER_CONFIG")
    os.environ["STOKER_CONFIG"] = str(path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["STOKER_CONFIG"]
        else:
            os.environ["STOKER_CONFIG"] = before


def settings_of(path: Path, **overrides: Any) -> Settings:
    """The settings of this file."""
    with in_force(path):
        return load(**overrides)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
