"""Where networks can be made for real: as root, or by anybody in namespaces of their own, where all they break is theirs."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from scheduler.errors import Permanent
from tasks.network.linux_commands import DEADLINE_S, program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CAP_NET_ADMIN: Final = 12
_CAP_SYS_ADMIN: Final = 21
_ALL_IDS: Final = ["0", "0", "4294967295"]
_NEEDED: Final = ("ip", "nft", "dnsmasq", "unshare", "nsenter", "mount")
_OWN_NAMESPACES: Final = ("--user", "--map-root-user", "--net", "--mount")
# Every kind of device that the driver makes. Read by `ip -batch -`.
_TRIAL: Final = (
    "link add name trial0 type bridge\nlink add name trial1 type vxlan id 1 dstport 4789\nlink add type veth\n"
)


@dataclass(frozen=True)
class Way:
    """How networks can be made here, or why they cannot."""

    way: Literal["root", "user_namespace"] | None
    reason: str


@dataclass(frozen=True)
class Sandbox:
    """A place to make networks in. Files and unix sockets are the machine's: through them its engines are reached."""

    holder: int | None  # the process whose namespaces it is; None = the machine's own

    def enter(self, argv: Sequence[str]) -> tuple[str, ...]:
        """The command that runs `argv` in there."""
        if self.holder is None:
            return tuple(argv)
        where = (
            f"--target={self.holder}",
            "--user",
            "--net",
            "--mount",
            "--preserve-credentials",
            f"--wd={Path.cwd()}",
        )
        return (program("nsenter"), *where, "--", *argv)


@cache
def ways() -> Way:
    """The way that works here. It was tried, in namespaces that are gone again."""
    try:
        for name in _NEEDED:
            program(name)
    except Permanent as error:
        return Way(None, str(error))
    if _has(_CAP_NET_ADMIN) and _has(_CAP_SYS_ADMIN) and _initial():
        failed = _try(("--net", "--mount"))
        return Way(None, f"root, but {failed}") if failed else Way("root", "CAP_NET_ADMIN and CAP_SYS_ADMIN")
    failed = _try(_OWN_NAMESPACES)
    if failed:
        return Way(None, f"neither root nor user namespaces of one's own: {failed}")
    return Way("user_namespace", "a user namespace may have networks of its own")


def may_change() -> bool:
    """Whether this process may change the network that it is in."""
    return _has(_CAP_NET_ADMIN)


@contextmanager
def sandbox() -> Iterator[Sandbox]:
    """A place to make networks in, until the end of the block.

    Raises:
        Permanent: there is no way to do it here.
    """
    way = ways()
    if way.way is None:
        remedy = "run as root with these packages, or allow user namespaces"
        raise Permanent("sandbox", expected="a way to make networks", got=way.reason, remedy=remedy)
    if way.way == "root":
        yield Sandbox(None)
        return
    # It ends when its input does: however this process ends, nobody is left to hold the namespaces.
    argv = (program("unshare"), *_OWN_NAMESPACES, "cat")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:  # noqa: S603 - no shell
        assert holder.stdin is not None  # for the type checker: it was asked for
        assert holder.stdout is not None
        # What it says comes back once it is `cat`, and then its namespaces are made.
        holder.stdin.write(b"\n")
        holder.stdin.flush()
        holder.stdout.readline()
        box = Sandbox(holder.pid)
        # `ip netns` keeps names in /run/netns, which there cannot be made or is the machine's: cover what can be covered.
        run, names = Path("/run"), Path("/run/netns")
        cover = names if names.is_dir() else run
        _run(box.enter((program("mount"), "-t", "tmpfs", "tmpfs", str(cover))))
        _run(box.enter(("mkdir", "-p", str(names))))
        yield box


def _try(namespaces: tuple[str, ...]) -> str:
    argv = (program("unshare"), *namespaces, program("ip"), "-batch", "-")
    try:
        done = subprocess.run(  # noqa: S603 - an argument list, no shell
            argv, input=_TRIAL, capture_output=True, text=True, check=False, timeout=DEADLINE_S
        )
    except subprocess.TimeoutExpired:
        return f"a trial took longer than {DEADLINE_S:g} s"
    return "" if done.returncode == 0 else f"a trial said {done.stderr.strip()!r}"


def _run(argv: tuple[str, ...]) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=DEADLINE_S)  # noqa: S603 - an argument list, no shell


def _has(capability: int) -> bool:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except FileNotFoundError:
        return False  # not Linux
    held = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "0")
    return bool(int(held, 16) >> capability & 1)


def _initial() -> bool:
    # In a user namespace of a few ids everybody has every capability, over what it owns alone.
    return os.geteuid() == 0 and Path("/proc/self/uid_map").read_text(encoding="ascii").split() == _ALL_IDS
