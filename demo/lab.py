"""Machines that are namespaces: an underlay, three nodes on it, and instances. Gone afterwards, whatever happened."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from config.network import Network, NetworkNode
from demo import lab_dns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasks.network.sandbox import Sandbox

NODES: Final = ("node1", "node2", "node3")
OUTSIDE: Final = "10.99.0.254"  # a machine of the underlay that is no node
DEADLINE_S: Final = 20.0
_FAMILY: Final = "stokerlab"
# What udhcpc runs when it has a lease: give the interface the address, the MTU and the way out.
_APPLY: Final = """#!/bin/sh -e
case "$1" in bound | renew) ;; *) exit 0 ;; esac
ip address replace "$ip/$mask" dev "$interface"
ip link set "$interface" mtu "${mtu:-1500}"
if [ -n "$router" ]; then ip route replace default via "${router%% *}"; fi
"""


class LabError(RuntimeError):
    """A command of the lab did not do what it is for."""


def new_prefix() -> str:
    """What the names of one lab's namespaces begin with. It tells whose they are: see `lab`."""
    return f"{_FAMILY}-{os.getpid()}-{secrets.token_hex(2)}"


def node_address(node: str) -> str:
    """Where a node is on the underlay."""
    return f"10.99.0.{1 + NODES.index(node)}"


def namespace(prefix: str, player: str) -> str:
    """The namespace that plays a node or an instance."""
    return f"{prefix}-{player}"


def lab_network(prefix: str) -> Network:
    """The settings of networks that are made on the nodes of this lab."""
    nodes = {name: NetworkNode(address=node_address(name), namespace=namespace(prefix, name)) for name in NODES}
    return Network(driver="linux", nodes=nodes)


@dataclass
class Lab:
    """The namespaces of one run, by the names of what they play."""

    box: Sandbox
    prefix: str
    client_script: Path
    made: list[str] = field(default_factory=list)

    @property
    def config(self) -> Network:
        """The settings of networks on its nodes."""
        return lab_network(self.prefix)

    def address(self, node: str) -> str:
        """Where a node is on the underlay."""
        return node_address(node)

    def namespace(self, player: str) -> str:
        """The namespace that plays it."""
        return namespace(self.prefix, player)

    def inside(self, player: str, argv: Sequence[str]) -> tuple[str, ...]:
        """The command that runs `argv` in the namespace of a player."""
        return self.box.enter(("ip", "netns", "exec", self.namespace(player), *argv))

    def run(self, argv: Sequence[str], player: str | None = None, *, check: bool = True, given: str = "") -> str:
        """What a command says, in the namespace of a player.

        Raises:
            LabError: it failed, and is checked.
        """
        command = self.inside(player, argv) if player else self.box.enter(argv)
        done = _said(command, given)
        if check and done.returncode != 0:
            raise LabError(f"{argv} in {player}: {done.returncode} {done.stdout} {done.stderr}")
        return done.stdout

    def batch(self, player: str | None, *commands: str) -> None:
        """`ip` commands."""
        where = ("-n", self.namespace(player)) if player else ()
        self.run(("ip", *where, "-batch", "-"), given="\n".join(commands) + "\n")

    def add(self, *players: str) -> None:
        """Players that are not on the underlay: instances."""
        names = [self.namespace(player) for player in players]
        self.made += names
        self.batch(None, *(f"netns add {name}" for name in names))

    def ping(self, player: str, address: str, *, tries: int = 3) -> bool:
        """Whether the address answers. One answer is enough, and it comes at once or not at all."""
        said = self.run(("ping", "-c1", "-W0.3", "-q", address), player, check=False)
        return " 1 received" in said or (tries > 1 and self.ping(player, address, tries=tries - 1))

    def lease(self, *players: str) -> list[str]:
        """The addresses that DHCP gives these instances, all asking at once.

        Raises:
            LabError: one of them gets none.
        """
        client = ("udhcpc", "-i", "eth0", "-q", "-n", "-f", "-t", "6", "-T", "1", "-s", str(self.client_script))
        asking = [
            subprocess.Popen(  # noqa: S603 - an argument list, no shell
                self.inside(player, client), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            for player in players
        ]
        for player, client_process in zip(players, asking, strict=True):
            with client_process:
                _, said = client_process.communicate(timeout=DEADLINE_S)
            if client_process.returncode != 0:
                raise LabError(f"{player} has no lease: {said}")
        return [self.ipv4(player) for player in players]

    def ipv4(self, player: str, device: str = "eth0") -> str:
        """The address that a device has."""
        found = json.loads(self.run(("ip", "-j", "-4", "address", "show", "dev", device), player))
        return str(found[0]["addr_info"][0]["local"])

    def resolve(self, player: str, server: str, name: str, *, tries: int = 3) -> str:
        """The address of the name as the server says, or why there is none."""
        said = self.run((sys.executable, "-m", "demo.lab_dns", server, name), player).strip()
        again = said == lab_dns.NOBODY and tries > 1
        return self.resolve(player, server, name, tries=tries - 1) if again else said

    def pids(self, player: str) -> list[int]:
        """Every process in a namespace."""
        return _pids(self.box, self.namespace(player))

    def dnsmasqs(self, player: str) -> list[int]:
        """The pids of all dnsmasq in a namespace."""
        return [pid for pid in self.pids(player) if _program(pid) == "dnsmasq"]

    def clean(self) -> None:
        """Kill what runs in the namespaces, and remove them."""
        _remove(self.box, self.made)


@contextmanager
def lab(box: Sandbox, prefix: str = "") -> Iterator[Lab]:
    """An underlay (10.99.0.0/24, with .254 for a machine that is no node) and three nodes on it."""
    _remove_leftovers(box)
    with ExitStack() as down:
        folder = Path(down.enter_context(tempfile.TemporaryDirectory(prefix=f"{_FAMILY}-")))
        made = Lab(box, prefix or new_prefix(), _client_script(folder))
        down.callback(made.clean)
        made.add("underlay", "outside", *NODES)
        members = {**{name: made.address(name) for name in NODES}, "outside": OUTSIDE}
        wires = [
            f"link add u-{name} netns {made.namespace('underlay')} type veth"
            f" peer name under0 netns {made.namespace(name)}"
            for name in members
        ]
        made.batch(None, *wires)
        ends = [f"link set u-{name} master under up" for name in members]
        made.batch("underlay", "link add name under type bridge", "link set under up", *ends)
        for name, address in members.items():
            made.batch(name, f"address add {address}/24 dev under0", "link set under0 up", "link set lo up")
        yield made


def _client_script(folder: Path) -> Path:
    path = folder / "lease"
    path.write_text(_APPLY, encoding="ascii")
    path.chmod(0o755)
    return path


def _remove_leftovers(box: Sandbox) -> None:
    """The namespaces of runs that were killed: their names tell whose they were."""
    said = _said(box.enter(("ip", "netns", "list"))).stdout
    names = [line.split()[0] for line in said.splitlines() if line.startswith(f"{_FAMILY}-")]
    _remove(box, [name for name in names if not Path(f"/proc/{name.split('-')[1]}").exists()])


def _remove(box: Sandbox, names: list[str]) -> None:
    for name in names:
        for pid in _pids(box, name):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    _said(box.enter(("ip", "-force", "-batch", "-")), "".join(f"netns delete {name}\n" for name in names))


def _pids(box: Sandbox, name: str) -> list[int]:
    return [int(pid) for pid in _said(box.enter(("ip", "netns", "pids", name))).stdout.split()]


def _program(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip()
    return ""


def _said(argv: Sequence[str], given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - an argument list, no shell
        argv, input=given, capture_output=True, text=True, check=False, timeout=DEADLINE_S
    )
