"""Sends a tick: through all of Celery's own machinery, and into its queue by a script that puts it there once."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import redis
from kombu.exceptions import OperationalError

from scheduler.errors import Temporary
from scheduler.redis.connection import at_once, connect
from scheduler.redis.queues.once import Answer, Once, Said
from tasks import correlation
from tasks.coalescing import CoalescingTask
from tasks.coalescing.publishing import catching

if TYPE_CHECKING:
    from celery import Celery

    from scheduler.store.beat import Claimed

# Shorter than the lease of beat, twice over: who waits for a Redis that hangs still renews it in time.
_ANSWER_S: Final = 1.0


class Publisher:
    """The connections to the broker are made when something is sent, and anew after an error."""

    def __init__(self, app: Celery, redis_client_url: str) -> None:
        self._app = app
        prefix = str((app.conf.broker_transport_options or {}).get("global_keyprefix", ""))
        self._once = Once(connect(redis_client_url, timeout_s=_ANSWER_S, retry=at_once()), prefix)
        self._connection: Any = None

    def send(self, tick: Claimed, epoch: int) -> Answer:
        """Put it into its queue, unless it is there, or was.

        Raises:
            Temporary: the broker did not answer. It may have been put or not; to send it again is safe.
            Exception: whatever Celery has against it. It can never be sent.
        """
        try:
            # First: a Redis that hangs is asked by a client that does not wait long, and a task that coalesces puts itself.
            may = self._once.ask(tick.task_id, epoch)
            # What somebody asked for is a story, and he was told its id; what its time sends follows from nobody.
            with correlation.within(tick.task_id if tick.asked_by else None):
                return self._publish(tick, epoch) if may.said is Said.FREE else may
        except (redis.RedisError, OperationalError, OSError) as error:
            self.close()
            raise Temporary(
                "Redis did not answer", got=str(error).strip(), remedy="check that it runs (`stoker doctor`)"
            ) from error

    def forget(self, tick: Claimed) -> None:
        """SQL knows that it was sent."""
        with suppress(redis.RedisError):  # the mark expires
            self._once.forget(tick.task_id)

    def close(self) -> None:
        """Close the connection to the broker."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.release()

    def _publish(self, tick: Claimed, epoch: int) -> Answer:
        if self._connection is None:
            self._connection = self._app.connection_for_write(transport_options={"socket_timeout": _ANSWER_S})
        answers = [Answer(Said.PUT)]

        def put(queue: str, message: str, _tag: str) -> None:
            answers.append(self._once.put(tick.task_id, epoch, queue, message))

        producer = self._app.amqp.Producer(self._connection, auto_declare=False)
        task = self._app.tasks.get(tick.task)
        options: dict[str, Any] = {
            "task_id": tick.task_id,
            "producer": producer,
            "retry": False,
            "ignore_result": True,  # nobody waits for it
            "headers": {"celery_beat_task": True},
        }
        options |= {name: value for name, value in (("queue", tick.queue), ("expires", tick.expires_s)) if value}
        if isinstance(task, CoalescingTask):
            # It joins a run or leads one under its id, by a script of its own. A second of the same id changes nothing while
            # the first waits or runs; later it is one more request for what is so already.
            task.apply_async(tick.args, tick.kwargs, **options)
            return answers[-1]
        with catching(producer, put):
            if task is None:
                self._app.send_task(tick.task, tick.args, tick.kwargs, **options)
            else:
                task.apply_async(tick.args, tick.kwargs, **options)
        return answers[-1]
