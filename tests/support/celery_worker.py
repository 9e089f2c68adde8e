"""What a lab has whose workers are real: a worker that can be killed, and an app that can be left."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass

from celery import Celery


@dataclass
class Worker:
    """A Celery worker in a process group of its own."""

    name: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """All of it, at once: nobody of it says or returns anything any more."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def forget_results(app: Celery) -> None:
    """A result that is collected when its server is gone says so in somebody else's test."""
    app.backend.result_consumer.stop()
    app.backend.remove_pending_result = lambda result: result
