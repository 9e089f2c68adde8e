"""The transports: kombu's, over channels that pick by policy."""

from __future__ import annotations

import time
from queue import Empty
from typing import TYPE_CHECKING, Any, Final, cast

from kombu.transport import redis as kombu_redis

from scheduler.errors import Refused
from tasks.transport.channel import Channel, SentinelChannel
from tasks.transport.poller import Poller

if TYPE_CHECKING:
    from kombu import Connection


# Without a call for so long, an idle worker looks by itself: who publishes by other means calls nobody.
SLEEP_S: Final = 1.5


class Transport(kombu_redis.Transport):
    """redis://, rediss:// and redis+socket://."""

    Channel = Channel

    def __init__(self, client: Connection, **kwargs: Any) -> None:
        """Refuse options under which a queue would be several lists."""
        steps = (client.transport_options or {}).get("priority_steps", [0])
        if list(steps) != [0]:
            raise Refused(
                "broker_transport_options['priority_steps']",
                expected="[0]: a queue is one list, and what is urgent has a queue of its own",
                got=repr(steps),
                remedy="set it to [0]",
            )
        super().__init__(client, **kwargs)
        self.cycle = Poller()  # type: ignore[assignment]
        # Not kombu's `polling_interval`, which also sleeps after each wait of a worker without an event loop.
        self.brpop_timeout = (client.transport_options or {}).get("sleep_s", SLEEP_S)

    def drain_events(self, connection: Any, timeout: float | None = None, **_: Any) -> None:
        """Wait for one message, at most so many seconds.

        kombu's begins its wait anew after each blocking command, and so waits for up to one such command too long.

        Raises:
            TimeoutError: none came.
        """
        del connection
        poller = cast("Poller", self.cycle)
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                poller.get(self._deliver, timeout=None if end is None else max(0.0, end - time.monotonic()))
            except Empty:
                if end is not None and time.monotonic() >= end:
                    raise TimeoutError from None
            else:
                return


class SentinelTransport(Transport, kombu_redis.SentinelTransport):
    """sentinel://."""

    default_port = kombu_redis.SentinelTransport.default_port
    Channel = SentinelChannel
