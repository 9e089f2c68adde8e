"""`stoker exporter`: metrics, served until somebody stops it."""

from __future__ import annotations

import signal
from typing import Final

from config.settings import load
from tasks.cli.output import console

_STOPS: Final = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def serve(port: int | None) -> None:
    """Serve on this port, or on that of the settings.

    Raises:
        Refused: the port cannot be had.
    """
    from tasks.celery_app import app  # noqa: PLC0415 - a command that only prints help should not load Celery
    from tasks.exporter import Exporter  # noqa: PLC0415

    # Before any thread starts: each inherits it, and so the signal comes to who waits for it here.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        with Exporter(app, load(), port) as exporter:
            console.print(f"metrics: {exporter.url}/metrics", highlight=False)
            signal.sigwait(_STOPS)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
