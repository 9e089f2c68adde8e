"""Hears the starts of all workers' tasks, for as long as it lives, whatever becomes of the broker meanwhile."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

import redis
import structlog
from kombu.exceptions import OperationalError

from tasks.starts import EVENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celery import Celery

log = structlog.get_logger(__name__)

# Flower asks as often: a worker that starts later sends nothing until it is told that somebody listens.
_ASK_S: Final = 5.0
_AGAIN_S: Final = 1.0
_STOP_S: Final = 10.0


class Listener:
    """A thread that receives events, and lets the workers send them. What is sent while the broker is away nobody hears."""

    def __init__(self, app: Celery, hear: Callable[[Mapping[str, Any]], None]) -> None:
        self._app, self._hear = app, hear
        self._stopping = threading.Event()
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stoker-listener", daemon=True)

    def start(self) -> None:
        """Listen, from a moment later on."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more. The workers go on sending: others may listen."""
        self._stopping.set()
        self._thread.join(_STOP_S)

    def is_listening(self) -> bool:
        """Whether the broker delivers now."""
        return self._listens.is_set() and self._thread.is_alive()

    def is_alive(self) -> bool:
        """Whether it will listen again when the broker is back."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except (OperationalError, redis.RedisError, OSError) as error:
                log.warning("events are not heard; tries again", error=str(error))
            except Exception:
                log.exception("events are not heard; tries again")
            self._listens.clear()
            self._stopping.wait(_AGAIN_S)

    def _listen(self) -> None:
        with self._app.connection_for_read() as connection:
            # By a channel, and with one try: each of them would else wait for the broker by itself, and longer each time.
            receiver = self._app.events.Receiver(
                connection.channel(), handlers={EVENT: self._hear}, routing_key="task.#"
            )
            receiver.connect_max_retries = 1
            asked_s, turns = -_ASK_S, 0

            def turn() -> None:
                """Before each look at the broker, which lasts a second at most."""
                nonlocal asked_s, turns
                receiver.should_stop = self._stopping.is_set()
                turns += 1
                if turns > 1:  # the first look subscribes
                    self._listens.set()
                if time.monotonic() - asked_s >= _ASK_S:
                    asked_s = time.monotonic()
                    self._app.control.enable_events(connection=connection)

            receiver.on_iteration = turn
            for _ in receiver.itercapture(limit=None, timeout=None, wakeup=False):
                pass
