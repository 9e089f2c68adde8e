"""Redis servers that want something of their clients: a password, rights, TLS; and sentinels that name one of two."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from tasks.engines.binaries import valkey_program
from tasks.engines.launch import end, launch
from tests.support.eventually import eventually
from tests.support.ports import free_port

HOST = "127.0.0.1"
START_S = 10


@contextmanager
def tcp_server(folder: Path, *lines: str, program_args: tuple[str, ...] = (), answers: bool = True) -> Iterator[int]:
    """A Valkey of these lines of configuration, on a port of its own."""
    port = free_port()
    folder.mkdir()
    conf = folder / "valkey.conf"
    conf.write_text("\n".join([f"port {port}", f"bind {HOST}", f"dir {folder}", 'save ""', *lines, ""]))
    child = launch(
        [str(valkey_program()), str(conf), *program_args], log=folder / "log", cwd=folder, death_signal=signal.SIGKILL
    )
    try:
        if answers:
            eventually(lambda: listens(port), f"the server on {port} listens", within_s=START_S)
        yield port
    finally:
        end(child, grace_s=START_S)


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


@dataclass(frozen=True)
class Certificate:
    """One that vouches for itself."""

    path: Path
    key: Path


def certificate(folder: Path) -> Certificate:
    """For this host. Skips without the program that makes it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the program openssl, which makes the certificate")
    made = Certificate(folder / "cert.pem", folder / "key.pem")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=IP:{HOST}"),
            *("-keyout", str(made.key), "-out", str(made.path)),
        ],
        check=True,
        capture_output=True,
    )
    return made


@contextmanager
def tls_in_front_of(
    server: int | Path,
    cert: Certificate,
    *,
    ask: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any] | None = None,
) -> Iterator[int]:
    """A port that speaks TLS and passes all on to this port or socket: the embedded servers have no TLS.

    `ask` is what goes before the handshake; None: it comes first.
    """
    loop = asyncio.new_event_loop()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert.path, cert.key)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ssl.SSLError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if isinstance(server, Path):
            there, back = await asyncio.open_unix_connection(server)
        else:
            there, back = await asyncio.open_connection(HOST, server)
        try:
            if ask is not None:
                await ask(reader, writer)
                await writer.start_tls(context)
            await asyncio.gather(pump(reader, back), pump(there, writer))
        finally:
            for each in (back, writer):
                each.transport.abort()

    async def stop() -> None:
        listening.close()
        # asyncio reports a handler that was cancelled as an error of its own.
        loop.set_exception_handler(lambda *_: None)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for each in rest:
            each.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    at_once = None if ask else context
    listening = loop.run_until_complete(asyncio.start_server(serve, HOST, 0, ssl=at_once))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield int(listening.sockets[0].getsockname()[1])
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(START_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def as_postgresql_asks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Its client says in eight bytes that it wants TLS, and begins when it is told `S`."""
    await reader.readexactly(8)
    writer.write(b"S")
    await writer.drain()


@dataclass(frozen=True)
class Watched:
    """Two servers, one the replica of the other, and a sentinel that knows which is which."""

    sentinel: int
    ports: tuple[int, int]

    def master(self) -> int:
        with redis.Redis(HOST, self.sentinel, decode_responses=True) as client:
            return int(client.sentinel_get_master_addr_by_name("broker")[1])

    def client(self, port: int) -> redis.Redis:
        return redis.Redis(HOST, port, decode_responses=True)

    def catch_up(self) -> None:
        """The replica has all that the master has."""
        with self.client(self.master()) as master:
            assert master.wait(1, START_S * 1000) == 1, "the replica did not catch up"

    def fail_over(self) -> None:
        """The replica becomes the master, and the master its replica."""
        before = self.master()
        (other,) = set(self.ports) - {before}
        with redis.Redis(HOST, self.sentinel) as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", "broker")
        eventually(lambda: self.master() == other, "the other is named", within_s=30)

        def follows() -> bool:
            with self.client(before) as client:
                return client.info("replication")["role"] == "slave"

        eventually(follows, "the one that was master follows", within_s=30)


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """A master, its replica and a sentinel."""
    with ExitStack() as down:
        quick = ("repl-diskless-sync-delay 0", "repl-ping-replica-period 1")
        first = down.enter_context(tcp_server(folder / "first", *quick))
        second = down.enter_context(tcp_server(folder / "second", *quick, f"replicaof {HOST} {first}"))
        lines = (f"sentinel monitor broker {HOST} {first} 1", "sentinel down-after-milliseconds broker 10000")
        sentinel = down.enter_context(tcp_server(folder / "sentinel", *lines, program_args=("--sentinel",)))
        made = Watched(sentinel, (first, second))

        def linked() -> bool:
            with made.client(second) as client:
                return client.info("replication")["master_link_status"] == "up"

        def known() -> bool:
            with redis.Redis(HOST, sentinel, decode_responses=True) as client:
                return [each["port"] for each in client.sentinel_slaves("broker")] == [second]

        eventually(linked, "the replica follows", within_s=30)
        eventually(known, "the sentinel knows the replica", within_s=30)
        yield made
