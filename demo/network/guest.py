"""An instance's own eyes: `python -m demo.network.guest` in its namespace asks the gateway for names and pings addresses.

Reads {"server", "names": {name: address}, "peers": [...], "strangers": [...]}; writes how many were as they should be.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from demo.lab_dns import ask

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TRIES: Final = 5
_PAUSE_S: Final = 0.1
_WAIT_S: Final = "0.4"


def resolved(server: str, names: Mapping[str, str]) -> int:
    """Names whose address the server says rightly. It is asked again: one that was told of a name just now reads it still."""
    return sum(any(_says(server, name, address, turn) for turn in range(TRIES)) for name, address in names.items())


def reached(addresses: Sequence[str], tries: int) -> int:
    """Addresses that answer to a ping."""
    return sum(any(_answers(address) for _ in range(tries)) for address in addresses)


def _says(server: str, name: str, address: str, turn: int) -> bool:
    time.sleep(_PAUSE_S * turn)
    return ask(server, name) == address


def _answers(address: str) -> bool:
    # One answer is enough, and it comes at once or not at all.
    argv = ("ping", "-c1", f"-W{_WAIT_S}", "-q", address)
    return subprocess.run(argv, stdout=subprocess.DEVNULL, check=False).returncode == 0  # noqa: S603 - no shell


if __name__ == "__main__":
    told = json.load(sys.stdin)
    found = {
        "resolved": resolved(told["server"], told["names"]),
        "pings_ok": reached(told["peers"], TRIES),
        "strangers_reached": reached(told["strangers"], 1),
    }
    sys.stdout.write(json.dumps(found))
