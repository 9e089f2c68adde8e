"""Machines that are namespaces: an underlay, three nodes on it, and instances. Gone afterwards, whatever happened."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from config.network import Network, NetworkNode
from tasks.network.sandbox import Sandbox

NODES = ("node1", "node2", "node3")
DEADLINE_S = 20.0
_APPLY = Path(__file__).with_name("udhcpc_apply.py")
_FAMILY = "stokerlab"


@dataclass
class Lab:
    """The namespaces of one run, by the names of what they play."""

    box: Sandbox
    prefix: str
    made: list[str] = field(default_factory=list)

    @property
    def config(self) -> Network:
        nodes = {name: NetworkNode(address=self.address(name), namespace=self.namespace(name)) for name in NODES}
        return Network(driver="linux", nodes=nodes)

    def address(self, node: str) -> str:
        return f"10.99.0.{1 + NODES.index(node)}"

    def namespace(self, player: str) -> str:
        return f"{self.prefix}-{player}"

    def run(self, argv: Sequence[str], player: str | None = None, *, check: bool = True, given: str = "") -> str:
        """What a command says, in the namespace of a player."""
        inside = ("ip", "netns", "exec", self.namespace(player)) if player else ()
        done = subprocess.run(
            self.box.enter((*inside, *argv)),
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{argv} in {player}: {done.returncode} {done.stdout} {done.stderr}")
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
        # One answer is enough, and it comes at once or not at all.
        said = self.run(("ping", "-c1", "-W0.3", "-q", address), player, check=False)
        return " 1 received" in said or (tries > 1 and self.ping(player, address, tries=tries - 1))

    def lease(self, *players: str) -> list[str]:
        """The addresses that DHCP gives these instances, all asking at once."""
        client = ("udhcpc", "-i", "eth0", "-q", "-n", "-f", "-t", "6", "-T", "1", "-s", str(_APPLY))
        asking = [
            subprocess.Popen(
                self.box.enter(("ip", "netns", "exec", self.namespace(player), *client)),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for player in players
        ]
        for player, client_process in zip(players, asking, strict=True):
            with client_process:
                _, said = client_process.communicate(timeout=DEADLINE_S)
            assert client_process.returncode == 0, f"{player}: {said}"
        return [self.ipv4(player) for player in players]

    def ipv4(self, player: str, device: str = "eth0") -> str:
        found = json.loads(self.run(("ip", "-j", "-4", "address", "show", "dev", device), player))
        return found[0]["addr_info"][0]["local"]

    def resolve(self, player: str, server: str, name: str) -> str:
        """The address of the name as the server says, or why there is none."""
        return self.run((sys.executable, "-m", "tests.support.netdns", server, name), player).strip()

    def dnsmasqs(self, player: str) -> list[int]:
        """The pids of all dnsmasq in a namespace."""
        pids = self.run(("ip", "netns", "pids", self.namespace(player))).split()
        return [int(pid) for pid in pids if _program(pid) == "dnsmasq"]

    def clean(self) -> None:
        _remove(self.box, self.made)


@contextmanager
def lab(box: Sandbox) -> Iterator[Lab]:
    """An underlay (10.99.0.0/24, with .254 for a machine that is no node) and three nodes on it."""
    _remove_leftovers(box)
    made = Lab(box, f"{_FAMILY}-{os.getpid()}-{secrets.token_hex(2)}")
    try:
        made.add("underlay", "outside", *NODES)
        members = {**{name: made.address(name) for name in NODES}, "outside": "10.99.0.254"}
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
    finally:
        made.clean()


def _remove_leftovers(box: Sandbox) -> None:
    """The namespaces of runs that were killed: their names tell whose they were."""
    said = subprocess.run(box.enter(("ip", "netns", "list")), capture_output=True, text=True, check=False).stdout
    names = [line.split()[0] for line in said.splitlines() if line.startswith(f"{_FAMILY}-")]
    _remove(box, [name for name in names if not Path(f"/proc/{name.split('-')[1]}").exists()])


def _remove(box: Sandbox, names: list[str]) -> None:
    for name in names:
        argv = box.enter(("ip", "netns", "pids", name))
        for pid in subprocess.run(argv, capture_output=True, text=True, check=False).stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    given = "".join(f"netns delete {name}\n" for name in names)
    argv = box.enter(("ip", "-force", "-batch", "-"))
    subprocess.run(argv, input=given, capture_output=True, text=True, check=False)


def _program(pid: str) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip()
    return ""
