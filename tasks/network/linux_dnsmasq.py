"""One dnsmasq a network: started once, told of changes, found again, ended. It outlives the worker that started it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scheduler.core import netnames
from scheduler.errors import Temporary
from tasks import processes
from tasks.launchers import control
from tasks.network.base import Change
from tasks.network.fence import write_atomically
from tasks.network.linux_commands import program, run
from tasks.network.linux_namespaces import identity as namespace_identity
from tasks.processes import Identity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.core.netview import NetworkView

_LEASE: Final = "12h"
_LEASE_WORDS: Final = 5  # until when, MAC, address, name, client
_GRACE_S: Final = 2.0
_POLL_S: Final = 0.01


@dataclass(frozen=True)
class _Record:
    """The dnsmasq that runs: who it is, how and where it was started, and which hosts it has read."""

    pid: int
    started: str
    how: str
    hosts: str

    @property
    def identity(self) -> Identity:
        return Identity(self.pid, self.started)


class Dnsmasq:
    """The server of one network. Used by one call at a time, by a thread in the namespace of the node."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()  # dnsmasq changes to / when it goes its own way
        self._hosts = self._folder / "dhcp-hosts"
        self._names = self._folder / "names"
        self._leases = self._folder / "leases"
        self._pid_file = self._folder / "dnsmasq.pid"
        self._record_file = self._folder / "dnsmasq.json"

    def converge(self, view: NetworkView, bridge: int) -> Iterator[Change]:
        """It runs, once, on this bridge (by its number), and knows the hosts of the view."""
        hosts, names = _dhcp_hosts(view), _names(view)
        argv = self._argv(view)
        # A server started for another bridge of the same name, or in another namespace, listens where nobody is.
        how = _digest(json.dumps([argv, bridge, namespace_identity()]))
        write_atomically(self._hosts, hosts)
        write_atomically(self._names, names)
        record = self._read_record()
        if record is None or record.how != how or self._stale_leases(view):
            if self._end_all(record):
                yield Change("dnsmasq", "stopped")
            self._prune_leases(view)
            identity = self._start(argv)
            yield Change("dnsmasq", "started")
        elif record.hosts != _digest(hosts + names):
            control.send(record.identity, signal.SIGHUP)
            identity = record.identity
            yield Change("dnsmasq", "reloaded")
        else:
            return
        # Written when it is done: killed before, this call is made again and reloads or starts once more.
        record = _Record(identity.pid, identity.started, how, _digest(hosts + names))
        write_atomically(self._record_file, json.dumps(asdict(record)))

    def stop(self) -> Iterator[Change]:
        """None of this network runs, and it knows no hosts."""
        if not self._hosts.exists():
            return  # none was ever started here: its files are written first, and removed last
        if self._end_all(self._read_record()):
            yield Change("dnsmasq", "stopped")
        for path in (self._record_file, self._pid_file, self._leases, self._names, self._hosts):
            path.unlink(missing_ok=True)

    def pid(self) -> int | None:
        """The process that serves now."""
        record = self._read_record()
        return record.pid if record else None

    def hosts(self) -> tuple[tuple[str, str], ...]:
        """MAC and address of the hosts that it was last told of."""
        with suppress(FileNotFoundError):
            lines = self._hosts.read_text(encoding="utf-8").splitlines()
            return tuple((mac, address) for mac, _, address in (line.partition(",") for line in lines))
        return ()

    def _argv(self, view: NetworkView) -> tuple[str, ...]:
        network = netnames.prefix(view.prefix)
        return (
            program("dnsmasq"),
            "--conf-file=/dev/null",
            f"--pid-file={self._pid_file}",
            # Empty: it stays who it is. `nobody` could not read these files, and in a user namespace there is none.
            "--user=",
            "--group=",
            f"--interface={netnames.bridge_device(view.vni)}",
            "--bind-interfaces",
            "--except-interface=lo",
            f"--domain={view.domain}",
            f"--local=/{view.domain}/",
            "--no-hosts",
            "--no-resolv",
            f"--addn-hosts={self._names}",
            f"--dhcp-range={network.network_address},static,{network.netmask},{_LEASE}",
            f"--dhcp-hostsfile={self._hosts}",
            f"--dhcp-leasefile={self._leases}",
            f"--dhcp-option=option:mtu,{view.mtu}",
            "--dhcp-authoritative",
            "--no-ping",
            "--quiet-dhcp",
            f"--log-facility={self._folder / 'dnsmasq.log'}",
        )

    def _end_all(self, record: _Record | None) -> bool:
        some = {record.identity} if record else self._strays()
        ended = bool(some)
        while some:
            for identity in some:
                _end(identity)
            # What a killed call left half-started becomes two processes, then another one: look until there is none.
            some = self._strays()
        return ended

    def _start(self, argv: tuple[str, ...]) -> Identity:
        # It leaves this process's session by itself, and only once it listens: when this returns it serves.
        run(argv)
        pid = _number(self._pid_file)
        process = processes.look(pid) if pid else None
        if process is None:
            got = "one that ended at once" if pid else "no pid file"
            raise Temporary("dnsmasq", expected="it running", got=got, remedy=f"read {self._folder / 'dnsmasq.log'}")
        return process.identity

    def _read_record(self) -> _Record | None:
        with suppress(FileNotFoundError, ValueError, TypeError):
            record = _Record(**json.loads(self._record_file.read_text(encoding="utf-8")))
            if processes.alive(record.identity):
                return record
        return None

    def _strays(self) -> set[Identity]:
        mark = os.fsencode(f"--pid-file={self._pid_file}")
        found = [processes.look(pid) for pid in processes.pids() if mark in _command(pid)]
        return {process.identity for process in found if process is not None and not process.zombie}

    def _stale_leases(self, view: NetworkView) -> list[str]:
        # dnsmasq keeps an address for whom it leased it to, even when the address was given to another host since.
        reserved = {(host.mac, host.address) for host in view.hosts}
        leases = [line.split() for line in self._lease_lines()]
        # One that has not all its five words yet is just being written.
        return [" ".join(lease) for lease in leases if len(lease) == _LEASE_WORDS and tuple(lease[1:3]) not in reserved]

    def _prune_leases(self, view: NetworkView) -> None:
        stale = set(self._stale_leases(view))
        if stale:
            write_atomically(self._leases, "".join(f"{line}\n" for line in self._lease_lines() if line not in stale))

    def _lease_lines(self) -> list[str]:
        with suppress(FileNotFoundError):
            return self._leases.read_text(encoding="utf-8").splitlines()
        return []


def _dhcp_hosts(view: NetworkView) -> str:
    # Without the name: in this file "ignore", "infinite" and "10m" are words with a meaning. The other file has it.
    return "".join(f"{host.mac},{host.address}\n" for host in sorted(view.hosts, key=lambda host: host.mac))


def _names(view: NetworkView) -> str:
    hosts = sorted(view.hosts, key=lambda host: host.name)
    return "".join(f"{host.address} {host.name}.{view.domain} {host.name}\n" for host in hosts)


def _end(identity: Identity) -> None:
    for signum in (signal.SIGTERM, signal.SIGKILL):
        control.send(identity, signum)
        deadline = time.monotonic() + _GRACE_S
        while processes.alive(identity):
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
        else:
            return
    got = f"alive {_GRACE_S:g} s later"
    raise Temporary(f"dnsmasq {identity.pid}", expected="gone after SIGKILL", got=got, remedy="it is tried again")


def _command(pid: int) -> list[bytes]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return []


def _number(path: Path) -> int | None:
    with suppress(FileNotFoundError, ValueError):
        return int(path.read_text(encoding="ascii"))
    return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
