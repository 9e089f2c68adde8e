"""What both demo workers do alike: the routes, the counters, the word to whoever waits, the life from start to SIGTERM.

Environment: STOKER_PORT, STOKER_WORKER_ID, STOKER_ACTIVATION_KEY (in a pod, whose document many may read, its digest
STOKER_ACTIVATION_KEY_SHA256), STOKER_ADDRESS where it is not loopback, and NOTIFY_SOCKET where somebody listens.
STOKER_DEMO_READY_DELAY_S slows the start down on purpose.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

from demo.gate import Gate, Refused
from demo.serving import LOOPBACK, JsonServer, Request

TYPE_CHECKING = False  # typing itself would cost 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    # SQL in, the answer's own fields out. Raises Refused for SQL that cannot be run.
    Execute: TypeAlias = Callable[[str], dict[str, Any]]

_NOTIFY_S = 1.0


class Worker:
    """The routes of one worker."""

    def __init__(self, gate: Gate, execute: Execute, worker_id: int) -> None:
        self._gate = gate
        self._execute = execute
        self._worker_id = worker_id
        self.ready_at_monotonic = time.monotonic()
        # Only ever shown; a count lost between two threads costs nothing.
        self._queries = 0
        self._foreign_refusals = 0
        self._routes: dict[tuple[str, str], Callable[[Request], dict[str, Any]]] = {
            ("GET", "/ready"): lambda _: {"ready": True},
            ("GET", "/health"): self._health,
            ("POST", "/activate"): self._activate,
            ("POST", "/deactivate"): self._deactivate,
            ("POST", "/sql"): self._sql,
        }

    def answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        """The status and document of one request."""
        route = self._routes.get((request.method, request.path))
        if route is None:
            return 404, {"error": f"expected one of {', '.join(map(' '.join, self._routes))}"}
        try:
            return 200, route(request)
        except Refused as refusal:
            self._foreign_refusals += refusal.status == 403  # noqa: PLR2004
            return refusal.status, {"error": refusal.reason}

    def _activate(self, request: Request) -> dict[str, Any]:
        claim = request.json()
        epoch = _epoch(claim)
        self._gate.activate(request.bearer, _text(claim, "tenant"), epoch, _text(claim, "token"))
        return {"epoch": epoch}

    def _deactivate(self, request: Request) -> dict[str, Any]:
        claim = request.json()
        epoch = _epoch(claim)
        self._gate.deactivate(request.bearer, _text(claim, "tenant"), epoch)
        return {"epoch": epoch}

    def _sql(self, request: Request) -> dict[str, Any]:
        if not request.bearer:
            raise Refused(401, "no valid token")
        tenant = request.headers.get("x-stoker-tenant", "")
        epoch = self._gate.admit(tenant, request.bearer)
        sql = _text(request.json(), "sql")
        self._queries += 1
        began = time.perf_counter()
        answer = self._execute(sql)
        elapsed_ms = round((time.perf_counter() - began) * 1000, 3)
        return {**answer, "elapsed_ms": elapsed_ms, "tenant": tenant, "epoch": epoch, "worker": self._worker_id}

    def _health(self, _: Request) -> dict[str, Any]:
        return {
            "state": self._gate.state,
            "epoch": self._gate.epoch,
            "worker": self._worker_id,
            "ready_at_monotonic": self.ready_at_monotonic,
            "queries": self._queries,
            "foreign_refusals": self._foreign_refusals,
        }


def run(prepare: Callable[[], Execute]) -> None:
    """Prepare the engine, listen, say so, and serve until SIGTERM.

    Nothing listens before the engine is prepared: a connection is the proof of readiness that every kind of probe sees.
    """
    # The kernel's own default ends the process at once, in the middle of a query too; nothing here needs to be saved.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gate = Gate(os.environ.get("STOKER_ACTIVATION_KEY", ""), os.environ.get("STOKER_ACTIVATION_KEY_SHA256", ""))
    port, worker_id = int(_required("STOKER_PORT")), int(_required("STOKER_WORKER_ID"))
    time.sleep(float(os.environ.get("STOKER_DEMO_READY_DELAY_S") or 0))
    execute = prepare()
    worker = Worker(gate, execute, worker_id)
    try:
        # A pod is told its own address; all others stay on loopback.
        server = JsonServer(port, worker.answer, os.environ.get("STOKER_ADDRESS") or LOOPBACK)
    except OSError as error:
        sys.exit(f"port {port}: expected a free one, got {error.strerror}; stop what listens there")
    worker.ready_at_monotonic = time.monotonic()
    _say_ready(worker_id)
    server.serve_forever(poll_interval=3600)


def _say_ready(worker_id: int) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            # The kernel queues few datagrams; when thirty workers speak at once, wait for the listener's next turn.
            notify.settimeout(_NOTIFY_S)
            notify.sendto(f"READY=1\nSTOKER_WORKER_ID={worker_id}".encode(), address)
    except OSError:
        return  # nobody listens: the probes will find out


def _required(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        sys.exit(f"{name}: expected a value in the environment, got none; a launcher sets it, or set it by hand")
    return value


def _text(document: dict[str, Any], field: str) -> str:
    value = document.get(field)
    if not isinstance(value, str):
        raise Refused(400, f"expected text as {field!r}")
    return value


def _epoch(document: dict[str, Any]) -> int:
    value = document.get("epoch")
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused(400, "expected a whole number as 'epoch'")
    return value
