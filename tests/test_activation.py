"""Activation and its end: what the worker is told, how long it may take, and that no secret is ever in an error."""

from __future__ import annotations

import json
import os
import pickle
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import pytest

from config.profile import Call, ExecCall, HttpCall, Profile
from tasks.activation import ActivationFailed, activate, deactivate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY, TOKEN = "activation-key-of-the-worker", "token-of-the-tenant"
YES = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Hook(Protocol):
    def __call__(  # noqa: PLR0917 - as they are
        self,
        profile: Profile,
        endpoint: str,
        activation_key: str,
        tenant: str,
        epoch: int,
        token: str,
        timeout_s: float,
    ) -> None: ...


def profile(call: Call | None) -> Profile:
    return Profile(name="duck", command=("x",), environment={"OWN": "set"}, activation=call, deactivation=call)


def act(call: Call | None, endpoint: str = "http://127.0.0.1:9", timeout_s: float = 5.0) -> None:
    activate(profile(call), endpoint, KEY, "acme", 3, TOKEN, timeout_s)


def failure(call: Call, endpoint: str = "http://127.0.0.1:9", timeout_s: float = 5.0) -> ActivationFailed:
    with pytest.raises(ActivationFailed) as raised:
        act(call, endpoint, timeout_s)
    error = pickle.loads(pickle.dumps(raised.value))  # noqa: S301 - our own, as between a Celery child and its parent
    assert isinstance(error, ActivationFailed)
    assert KEY not in str(error) + repr(error)
    assert TOKEN not in str(error) + repr(error)
    return error


class OneShot:
    """Accepts one connection, keeps what it hears and gives one answer, in pieces."""

    def __init__(self, *pieces: bytes, hold: bool = False) -> None:
        self.heard = b""
        self._pieces, self._hold = pieces, hold
        self._done = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    @contextmanager
    def serving(self) -> Iterator[OneShot]:
        self._thread.start()
        try:
            yield self
        finally:
            self._done.set()
            self._thread.join()
            self._listener.close()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            while b"}" not in self.heard and (chunk := connection.recv(4_096)):
                self.heard += chunk
            try:
                for piece in self._pieces:
                    connection.sendall(piece)
                    if self._hold and self._done.wait(0.02):
                        break
                if self._hold:
                    self._done.wait()
            except OSError:
                return  # the caller has given up


def test_no_hook_is_nothing_to_do() -> None:
    act(None)
    deactivate(profile(None), "http://127.0.0.1:9", KEY, "acme", 3, TOKEN, 1.0)


@pytest.mark.parametrize("function", [activate, deactivate])
def test_an_http_hook_is_told_who_holds_the_worker(function: Hook) -> None:
    with OneShot(b"HTTP/1.", b"1 204 No Content\r\n\r\n").serving() as worker:
        function(profile(HttpCall(path="/bind")), worker.endpoint, KEY, "acme", 3, TOKEN, 5.0)
    head, _, body = worker.heard.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /bind HTTP/1.1\r\n")
    assert f"Authorization: Bearer {KEY}".encode() in head
    assert json.loads(body) == {"tenant": "acme", "epoch": 3, "token": TOKEN}


@pytest.mark.parametrize("status", ["302 Found", "409 Conflict", "503 Busy", "199 Odd"])
def test_anything_but_2xx_is_a_refusal_and_no_redirect_is_followed(status: str) -> None:
    echo = f"HTTP/1.1 {status}\r\nLocation: http://127.0.0.1:9/\r\n\r\n{TOKEN}".encode()
    with OneShot(echo).serving() as worker:
        error = failure(HttpCall(), worker.endpoint)
    assert error.reason == "refused"
    assert status[:3] in str(error)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1", b"no http at all\r\n", b"x" * 100_000])
def test_no_answer_or_nonsense_is_unreachable(answer: bytes) -> None:
    with OneShot(answer).serving() as worker:
        assert failure(HttpCall(), worker.endpoint).reason == "unreachable"


def test_nobody_listening_is_unreachable() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        assert failure(HttpCall(), endpoint).reason == "unreachable"


@pytest.mark.parametrize("pieces", [(), (b"H",) * 400], ids=["silent", "dripping"])
def test_the_deadline_holds_for_the_whole_call(pieces: tuple[bytes, ...]) -> None:
    with OneShot(*pieces, hold=True).serving() as worker:
        began = time.monotonic()
        error = failure(HttpCall(), worker.endpoint, timeout_s=0.15)
        assert time.monotonic() - began < 2
    assert error.reason == "timeout"


def test_a_yes_is_enough_the_rest_of_the_answer_is_not_awaited() -> None:
    with OneShot(YES[:17], hold=True).serving() as worker:
        act(HttpCall(), worker.endpoint)


def test_a_key_that_would_break_out_of_its_header_is_refused() -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        activate(profile(HttpCall()), "http://127.0.0.1:9", "key\r\nX-Evil: 1", "acme", 1, TOKEN, 1.0)


def test_an_exec_hook_is_told_by_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_REDIS_URL", "redis://secret")
    seen = tmp_path / "seen"
    code = f"import json,os,sys;json.dump([sys.argv,dict(os.environ)],open({str(seen)!r},'w'))"
    act(ExecCall(command=("{python}", "-S", "-c", code)))
    argv, environment = json.loads(seen.read_text())
    assert TOKEN not in str(argv)
    hook = {
        name: environment.get(f"STOKER_{name}") for name in ("TENANT", "EPOCH", "TOKEN", "ENDPOINT", "ACTIVATION_KEY")
    }
    assert hook == {
        "TENANT": "acme",
        "EPOCH": "3",
        "TOKEN": TOKEN,
        "ENDPOINT": "http://127.0.0.1:9",
        "ACTIVATION_KEY": KEY,
    }
    assert environment["OWN"] == "set"
    assert "STOKER_REDIS_URL" not in environment


def test_an_exec_hook_that_says_no_is_a_refusal_whatever_it_prints() -> None:
    code = "import os,sys;print(os.environ['STOKER_TOKEN']);sys.exit(os.environ['STOKER_ACTIVATION_KEY'])"
    error = failure(ExecCall(command=("{python}", "-S", "-c", code)))
    assert (error.reason, "exit code 1" in str(error)) == ("refused", True)


def test_an_exec_hook_that_does_not_exist_is_unreachable() -> None:
    assert failure(ExecCall(command=("no-such-program",))).reason == "unreachable"


def test_an_exec_hook_that_hangs_ends_with_its_children(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    hangs = ExecCall(command=("sh", "-c", f"exec 3>'{pipe}'; echo started >&3; sleep 600 & wait"))
    assert failure(hangs, timeout_s=2.0).reason == "timeout"
    os.set_blocking(reader, True)
    with os.fdopen(reader, "rb") as said:
        assert said.read() == b"started\n"  # its end comes when the last process that holds the pipe is gone
