"""Profiles of pods for tests: small Python programs, under an image that no registry is asked for."""

from __future__ import annotations

from typing import Any, Final

from config.kubernetes import Pod
from config.profile import Profile

# Of the nodes that tests bring along (tests/support/kubelet.py): their pods run nowhere else, and no others there.
AGENT: Final = "stoker.dev/test-agent"
ANY_NODES: Final = "node"


def on(nodes: str = ANY_NODES) -> dict[str, Any]:
    """Of a profile's pods: to run on these nodes alone."""
    return {"node_selector": {AGENT: nodes}, "tolerations": [{"key": AGENT, "effect": "NoSchedule"}]}


IMAGE: Final = "registry.example/worker@sha256:" + "0" * 64
LISTEN: Final = """
import os, signal, socket
{before}
listener = socket.create_server((os.environ["STOKER_ADDRESS"], int(os.environ["STOKER_PORT"])))
signal.pause()
"""


def python(code: str, *, pod: dict[str, Any] | None = None, **facts: Any) -> Profile:
    """A profile that runs this code."""
    facts = {"name": "test", "memory": 2**20, "cpu": "1m", **facts}
    return Profile(
        command=("{python}", "-S", "-c", code), kubernetes=Pod(**{"image": IMAGE, **on(), **(pod or {})}), **facts
    )


POLITE: Final = python(LISTEN.format(before=""))
STUBBORN: Final = python(LISTEN.format(before="signal.signal(signal.SIGTERM, signal.SIG_IGN)"))
