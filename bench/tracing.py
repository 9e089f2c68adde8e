"""What tracing costs a worker: tasks a second of a backlog of tasks of one statement each, with traces off, on
and sampled, in turns.

Not among the benches of `make bench`, for nothing is aimed at: ``python -m bench.tracing [--quick]``. The collector reads in this
process what it is sent, and what that takes from the machine is in the figure.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from bench.ground import engines, settings_of
from config.names import OPERATION_SHOW_TASK
from scheduler.redis.connection import connect
from tasks.celery_app import make_app
from tasks.context import Context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery

QUEUE: Final = "background"
SLOTS: Final = 8
SETTINGS: Final = """
[profiles.echo]
command = ["true"]
memory = "8Mi"
readiness = { kind = "exec", command = ["true"] }
"""
ON: Final = {"STOKER_TRACES__ENABLED": "true"}
WAYS: Final[dict[str, dict[str, str]]] = {
    "off": {},
    "on": ON,
    "one_in_100": {**ON, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"},
}
_LOOK_S: Final = 0.01
_WAIT_S: Final = 120.0
_WARM: Final = 0.2  # of the backlog


def measure(rounds: int, tasks: int) -> dict[str, Any]:
    """Rates of each way and the ratio of their medians; spans' bytes that were sent."""
    with settings_of(SETTINGS) as settings, engines(settings), _sink() as (url, got):
        app = make_app("bench", settings, set_as_current=False)
        context = Context(settings, app)
        context.prepare()
        rates: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(rounds):
            for way in sorted(rates, reverse=bool(number % 2)):
                told = {"STOKER_TRACES__ENDPOINT": url, **WAYS[way]}
                rates[way].append(_rate(app, settings.redis_client_url, told, tasks))
        context.close()
        app.close()
    medians = {way: statistics.median(found) for way, found in rates.items()}
    ratios = {f"{way}_vs_off": round(medians[way] / medians["off"], 3) for way in WAYS if way != "off"}
    return {"tasks_per_s": rates, **ratios, "bytes_sent": sum(got)}


def _rate(app: Celery, redis_url: str, told: dict[str, str], tasks: int) -> float:
    with app.producer_or_acquire() as producer, producer.batch(100):
        for _ in range(tasks):
            app.send_task(OPERATION_SHOW_TASK, (1,), queue=QUEUE, ignore_result=True, producer=producer)
    argv = [
        "worker",
        f"--queues={QUEUE}",
        "--pool=threads",
        f"--concurrency={SLOTS}",
        "--loglevel=WARNING",
        "--without-gossip",
    ]
    with (
        subprocess.Popen(  # noqa: S603 - ours
            [sys.executable, "-m", "celery", "-A", "tasks", *argv],
            env={**os.environ, **told},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as worker,
        closing(connect(redis_url)) as client,
    ):
        try:
            began = _when(client, round(tasks * (1 - _WARM)))
            return (1 - _WARM) * tasks / (_when(client, 0) - began)
        finally:
            worker.terminate()


def _when(client: Any, left: int) -> float:  # noqa: ANN401 - redis-py's
    pause, deadline = threading.Event(), time.monotonic() + _WAIT_S
    while client.llen(QUEUE) > left:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{client.llen(QUEUE)} tasks left")
        pause.wait(_LOOK_S)
    return time.monotonic()


@contextmanager
def _sink() -> Iterator[tuple[str, list[int]]]:
    got: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Read, and say that it is well."""
            got.append(len(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: the figures are what is printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", got
        server.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    print(json.dumps(measure(rounds=1 if quick else 7, tasks=200 if quick else 3_000), indent=2))
