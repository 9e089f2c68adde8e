"""The programs that the linux driver runs: as argument lists, with a deadline, and with errors that say what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from scheduler.errors import Permanent, Temporary

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGES: Final = {"nft": "nftables", "dnsmasq": "dnsmasq-base"}
DEADLINE_S: Final = 10.0
RIGHTS: Final = "run as root, with CAP_NET_ADMIN, or in a sandbox of tasks.network.sandbox"
# Where distributions keep what only root used to run; a service's PATH often lacks them.
_PATH: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))


def program(name: str) -> str:
    """The full path of a program.

    Raises:
        Permanent: it is not installed.
    """
    found = shutil.which(name, path=_PATH)
    if found is None:
        remedy = f"apt-get install {PACKAGES.get(name, name)}"
        raise Permanent(f"program {name}", expected="it installed", got=f"none in {_PATH}", remedy=remedy)
    return found


def run(argv: Sequence[str], given: str = "", *, keep: tuple[int, ...] = ()) -> str:
    """Run a program to its end, in the namespace of this thread; what it wrote. It keeps these descriptors open."""
    command = (program(argv[0]), *argv[1:])
    try:
        done = subprocess.run(  # noqa: S603 - an argument list, no shell
            command, input=given, capture_output=True, text=True, check=False, timeout=DEADLINE_S, pass_fds=keep
        )
    except subprocess.TimeoutExpired as error:
        raise Temporary(
            argv[0], expected=f"its end within {DEADLINE_S:g} s", got="none", remedy="it is tried again"
        ) from error
    if done.returncode == 0:
        return done.stdout
    said = (done.stderr or done.stdout).strip()
    if "Operation not permitted" in said or "Permission denied" in said:
        raise Permanent(" ".join(argv[:3]), expected="the right to change the network", got=said, remedy=RIGHTS)
    raise Temporary(
        " ".join(argv[:3]), expected="exit status 0", got=f"{done.returncode}: {said}", remedy="it is tried again"
    )
