"""The worker's reading of tasks: a message that no task can be made of is refused, and ends no worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis
from celery.worker.consumer import Consumer
from kombu.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

logger = get_logger(__name__)


class RefusingConsumer(Consumer):
    """Celery's, but that whatever a message makes Celery raise is the message's fault.

    Celery knows of some faults. Of others (a body that is no triple, a callback that is none) it dies, and again when the
    broker hands the message to the next worker.
    """

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:  # noqa: ANN401 - Celery's own
        """What is called with each message."""
        handle = super().create_task_handler(*args, **kwargs)
        # Those are the broker's faults: the worker connects again.
        passing = (*self.connection_errors, *self.channel_errors, redis.RedisError, OSError, MemoryError)

        def on_message(message: Any) -> None:  # noqa: ANN401 - kombu's
            try:
                handle(message)
            except passing:
                raise
            except Exception as error:  # noqa: BLE001 - as the class says
                logger.critical("Message %s is no task, and is refused: %.1000r", message.delivery_tag, error)
                if not message.acknowledged:
                    message.reject_log_error(logger, self.connection_errors)

        return on_message
