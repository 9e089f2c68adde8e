"""Readiness: every kind of probe, its bounds, and the word of the worker that brings the next one forward."""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from config.profile import ExecProbe, HttpProbe, Probe, TcpProbe
from tasks.launchers import probes
from tasks.launchers.base import LaunchPermanent
from tasks.launchers.notify import NotifyListener, ready_worker
from tasks.launchers.probes import wait_ready
from tests.support.eventually import eventually
from tests.support.ports import free_port

FAR_S = 60.0  # a period that no test waits out
TEST_S = 10.0
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def says(*answers: bytes, asked: list[bytes] | None = None) -> Answer:
    """A server that gives these answers in turn, the last one for ever."""
    left = list(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if asked is not None:
            asked.append(request)
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        writer.close()

    return answer


async def ready(
    probe: Probe, endpoint: str, *, connect_s: float = 1.0, nudge: asyncio.Event | None = None, within_s: float = TEST_S
) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await wait_ready(probe, endpoint, {"FROM_PROFILE": "yes"}, connect_s, nudge or asyncio.Event())
    except TimeoutError:
        return False
    return True


def test_an_http_probe_asks_until_the_answer_is_2xx() -> None:
    async def scenario() -> None:
        asked: list[bytes] = []
        busy, moved, fine = (f"HTTP/1.1 {status} X\r\n\r\n".encode() for status in (503, 302, 204))
        async with serving(
            says(busy, moved, b"SSH-2.0-nonsense\r\n", b"", b"x" * 5_000, fine, asked=asked)
        ) as endpoint:
            assert await ready(HttpProbe(path="/health?deep=1", period_s=0.001), endpoint)
        assert len(asked) == 6
        assert asked[0].startswith(b"GET /health?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:")
        assert b"Connection: close\r\n" in asked[0]

    asyncio.run(scenario())


def test_a_worker_that_accepts_and_says_nothing_takes_no_more_than_connect_s_of_an_attempt() -> None:
    async def scenario() -> None:
        connections = 0
        released = asyncio.Event()

        async def mute_at_first(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            if connections == 1:
                await released.wait()
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            writer.close()

        async with serving(mute_at_first) as endpoint:
            assert await ready(HttpProbe(period_s=0.001), endpoint, connect_s=0.05)
            released.set()
        assert connections >= 2

    asyncio.run(scenario())


def test_a_tcp_probe_is_content_with_a_connection() -> None:
    async def scenario() -> None:
        async with serving(says(b"")) as endpoint:
            assert await ready(TcpProbe(), endpoint)
        assert not await ready(TcpProbe(period_s=0.001), f"http://127.0.0.1:{free_port()}", within_s=0.05)

    asyncio.run(scenario())


def test_an_exec_probe_sees_the_worker_and_none_of_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_DATABASE_URL", "postgresql://secret")
    code = """
import os
assert os.environ["FROM_PROFILE"] == "yes"
assert os.environ["STOKER_ENDPOINT"].endswith(":9")
assert "STOKER_DATABASE_URL" not in os.environ
"""
    assert asyncio.run(ready(ExecProbe(command=("{python}", "-S", "-c", code)), "http://127.0.0.1:9"))


def test_an_exec_probe_that_fails_hangs_or_does_not_exist_is_no_yes(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    hangs = f"import os,signal;open({str(pids)!r},'a').write(f'{{os.getpid()}}\\n');signal.pause()"

    async def scenario() -> None:
        for command in (("false",), ("no-such-program",)):
            assert not await ready(ExecProbe(command=command, period_s=0.001), "http://127.0.0.1:9", within_s=0.05)
        hanging = ExecProbe(command=(sys.executable, "-S", "-c", hangs), period_s=FAR_S)
        asking = asyncio.create_task(ready(hanging, "http://127.0.0.1:9", connect_s=FAR_S, within_s=FAR_S))
        there = partial(eventually, lambda: pids.exists() and pids.read_text().endswith("\n"), "it hangs", within_s=60)
        await asyncio.to_thread(there)
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking

    asyncio.run(scenario())
    for pid in pids.read_text().split():
        assert not Path(f"/proc/{pid}").exists()


def test_exec_probes_work_on_a_loop_outside_the_main_thread() -> None:
    answers: list[bool] = []
    thread = threading.Thread(
        target=lambda: answers.append(asyncio.run(ready(ExecProbe(command=("true",)), "http://127.0.0.1:9")))
    )
    thread.start()
    thread.join(TEST_S)
    assert answers == [True]


def test_a_nudge_brings_the_next_probe_forward() -> None:
    async def scenario() -> None:
        nudge = asyncio.Event()

        async def no_then_yes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" if nudged else b"HTTP/1.1 503 No\r\n\r\n")
            writer.close()
            nudged.append(True)
            nudge.set()

        nudged: list[bool] = []
        async with serving(no_then_yes) as endpoint:
            assert await ready(HttpProbe(period_s=FAR_S), endpoint, nudge=nudge)

    asyncio.run(scenario())


def test_one_nudge_is_one_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = 0
    nudge = asyncio.Event()

    async def no(*_: object) -> bool:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            nudge.set()
        return False

    monkeypatch.setattr(probes, "_attempt", no)
    assert not asyncio.run(ready(TcpProbe(period_s=FAR_S), "http://127.0.0.1:9", nudge=nudge, within_s=0.05))
    assert attempts == 2


def test_an_endpoint_that_is_none_is_an_error_and_not_a_wait() -> None:
    with pytest.raises(ValueError, match="expected http://HOST:PORT"):
        asyncio.run(ready(HttpProbe(), "worker-7"))


def test_a_thousand_probes_need_no_thousand_threads_and_keep_their_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = 0

    async def never(*_: object) -> bool:
        nonlocal attempts
        attempts += 1
        return False

    monkeypatch.setattr(probes, "_attempt", never)

    async def scenario() -> int:
        waits = [asyncio.create_task(ready(TcpProbe(period_s=0.001), "http://x:1", within_s=0.3)) for _ in range(1_000)]
        await asyncio.gather(*waits)
        return threading.active_count()

    before = threading.active_count()
    assert asyncio.run(scenario()) <= before
    assert 1_000 <= attempts < 2_000  # once each, then 1,000 a second; by their own period it would be 300 times each


@pytest.fixture
def socket_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="stoker-") as folder:  # tmp_path is too long for a socket on some systems
        yield Path(folder) / "notify"


def tell(path: Path, text: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as worker:
        worker.sendto(text, str(path))


def test_ready_by_datagram_nudges_that_worker_only(socket_path: Path) -> None:
    async def scenario() -> None:
        async with NotifyListener(socket_path) as listener:
            with listener.expect(7) as seven, listener.expect(8) as eight:
                for noise in (
                    b"",
                    b"READY=1",
                    b"READY=1\nSTOKER_WORKER_ID=9",
                    b"STATUS=x\nSTOKER_WORKER_ID=8",
                    b"\xff" * 9_000,
                ):
                    tell(socket_path, noise)
                tell(socket_path, b"STATUS=up\nREADY=1\nSTOKER_WORKER_ID=7")
                async with asyncio.timeout(TEST_S):
                    await seven.wait()
                assert not eight.is_set()
            tell(socket_path, b"READY=1\nSTOKER_WORKER_ID=7")  # nobody waits any more: no harm

    asyncio.run(scenario())


def test_a_listener_cleans_up_after_a_dead_one_and_leaves_a_living_one_its_path(socket_path: Path) -> None:
    socket_path.touch()

    async def scenario() -> None:
        async with NotifyListener(socket_path):
            assert socket_path.stat().st_mode & 0o777 == 0o600  # noqa: ASYNC240 - a test's loop has nothing else to do
            async with NotifyListener(socket_path):
                pass
            assert not socket_path.exists()  # noqa: ASYNC240
            async with NotifyListener(socket_path) as heir:
                old = NotifyListener(socket_path)
                old._socket, old._inode = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), -1
                await old.__aexit__()
                assert heir.path.exists()

    asyncio.run(scenario())


def test_a_path_too_long_for_a_socket_names_the_remedy(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with NotifyListener(tmp_path / ("x" * 120)):
            pass

    with pytest.raises(LaunchPermanent, match="choose a shorter state_dir"):
        asyncio.run(scenario())


@pytest.mark.parametrize(
    ("datagram", "worker"),
    [
        (b"READY=1\nSTOKER_WORKER_ID=12", 12),
        (b"STOKER_WORKER_ID=12\nREADY=1\n", 12),
        (b"READY=0\nSTOKER_WORKER_ID=12", None),
        (b"READY=1\nSTOKER_WORKER_ID=-1", None),
        (b"READY=1\nSTOKER_WORKER_ID=" + b"9" * 4_000, None),
        (b"\x00\xff", None),
    ],
)
def test_only_a_ready_worker_is_read_out_of_a_datagram(datagram: bytes, worker: int | None) -> None:
    assert ready_worker(datagram) == worker
