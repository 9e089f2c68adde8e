"""Signs of life: what has ended gives none, however late its last one is."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import redis

from scheduler.redis.coalescing import Ask, BegunRun, Protocol
from scheduler.redis.coalescing import Execution as Living
from tasks.coalescing.execution import Execution, Heart
from tasks.starts import Start
from tests.support.coalescing import message
from tests.support.servers import Servers

WITHIN_S = 10


class Slow(Protocol):
    """Its renewals are on their way until they are let."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client, lease_s=2.0)
        self.sent, self.let = threading.Event(), threading.Event()

    def renew(self, executions: Sequence[Living]) -> set[str]:
        self.sent.set()
        assert self.let.wait(WITHIN_S)
        return super().renew(executions)


def test_a_run_that_ends_while_it_is_renewed_leaves_its_lane_free(servers: Servers) -> None:
    servers.flush()
    with redis.Redis.from_url(servers.redis_client_url, decode_responses=True) as client:
        protocol = Slow(client)
        ask = Ask("a", "key", "lane", 0, "queue", "{}", False)  # noqa: FBT003
        protocol.join(ask, message("a", "tag"), "tag")
        begun = protocol.begin("a", "token")
        assert isinstance(begun, BegunRun)
        execution = Execution(ask, "token", begun, Start("task", "queue", None))
        heart = Heart(protocol)
        heart.add(execution)
        assert protocol.sent.wait(WITHIN_S)
        ended = threading.Event()

        def end() -> None:
            heart.remove(execution)
            protocol.done("a", "token")
            ended.set()

        threading.Thread(target=end).start()
        # Had it not waited for the sign of life, the run would have been settled by now, and that sign have taken the lane again.
        assert not ended.wait(0.2)
        protocol.let.set()
        assert ended.wait(WITHIN_S)
        assert client.keys("*lanes") == client.keys("*runs") == []
