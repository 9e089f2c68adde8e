"""The transports: kombu's, over channels that pick by policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu.transport import redis as kombu_redis

from scheduler.errors import Refused
from tasks.transport.channel import Channel, SentinelChannel
from tasks.transport.poller import Poller

if TYPE_CHECKING:
    from kombu import Connection


class Transport(kombu_redis.Transport):
    """redis://, rediss:// and redis+socket://."""

    Channel = Channel
    # Seconds without a call after which an idle worker looks by itself; `polling_interval` among the options changes it.
    brpop_timeout = 1.5  # type: ignore[assignment]

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


class SentinelTransport(Transport, kombu_redis.SentinelTransport):
    """sentinel://."""

    default_port = kombu_redis.SentinelTransport.default_port
    Channel = SentinelChannel
