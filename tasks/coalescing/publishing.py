"""How a message is built by all of Celery's own machinery, and yet published by a script of ours.

kombu sends what a channel publishes to a batch, if the producer is in one, as the Redis command that would publish it. A
`Catcher` is such a batch: it hands the command's list and message to whoever asked, who publishes in one atomic step with
what has to happen beside it. Signals, routing, serialisation and retries over a broken connection stay Celery's.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kombu import Producer


class Catcher:
    """Stands in for a producer's batch. What is sent to an exchange (events) passes; tasks go straight to their list."""

    def __init__(self, publish: Callable[[str, str, str], None]) -> None:
        self._publish = publish

    def publish(self, channel: Any, message: dict[str, Any], **how: Any) -> Any:  # noqa: ANN401 - kombu's own types
        """Called by the producer for each message."""
        if how.get("exchange"):
            return channel.basic_publish(message, **how)
        return channel.basic_publish(message, _publish_batch=_Command(message, self._publish), **how)


class _Command:
    """What the channel takes for its pipeline of commands."""

    def __init__(self, message: dict[str, Any], publish: Callable[[str, str, str], None]) -> None:
        self._message, self._publish = message, publish

    def add(self, command: str, key: str, value: Any) -> None:  # noqa: ANN401 - kombu's own types
        if command == "lpush":
            self._publish(key, value, self._message["properties"]["delivery_tag"])


@contextmanager
def catching(producer: Producer, publish: Callable[[str, str, str], None]) -> Iterator[None]:
    """For the time of the block this thread's messages go to `publish(list, message, delivery_tag)`."""
    local = producer._batch_local  # noqa: SLF001 - kombu is held to one minor release for this
    before = getattr(local, "current", None)
    local.current = Catcher(publish)
    try:
        yield
    finally:
        local.current = before
