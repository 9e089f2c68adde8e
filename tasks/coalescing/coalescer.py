"""One Celery app's coalescing: the protocol on its broker, the urgency of its queues, the runs in this process's hands."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from config.names import QUEUES
from config.urls import redis_client_url
from scheduler.redis.coalescing import Protocol
from scheduler.redis.connection import at_once, connect, patience
from tasks.coalescing.execution import Heart
from tasks.coalescing.results import results_of

if TYPE_CHECKING:
    from celery import Celery

_LED_KEPT: Final = 4_096
_LED_S: Final = 5.0
_LED_AGAIN_S: Final = 1.0  # what was seen so shortly ago is not noted anew
_EAGER: Final = "task_always_eager"


class Coalescer:
    """Made on first use; opens a connection when a script is first called.

    `app.conf.coalescing` may set `queues` (names, most urgent first), `lease_s`, `look_s` and `followers_max`.
    """

    def __init__(self, app: Celery) -> None:
        options: dict[str, Any] = dict(app.conf.get("coalescing") or {})
        transport: dict[str, Any] = app.conf.broker_transport_options or {}
        queues = options.pop("queues", QUEUES)
        self._ranks = {queue: rank for rank, queue in enumerate(queues)}
        self.prefix = str(transport.get("global_keyprefix", ""))
        url = redis_client_url(app.conf.broker_write_url or app.conf.broker_url)
        self.protocol = Protocol(
            connect(url, retry=at_once()),
            patient=connect(url, retry=patience()),
            prefix=self.prefix,
            held_index=str(transport.get("unacked_index_key", "unacked_index")),
            **options,
        )
        self.heart = Heart(self.protocol)
        self.result = results_of(app)
        self._led: OrderedDict[str, float] = OrderedDict()
        self._changes: dict[str, Any] = app.conf.changes
        self._eager = bool(app.conf.task_always_eager) and _EAGER not in self._changes

    def rank(self, queue: str) -> int:
        """How urgent a queue is, 0 the most. A queue bound to a node is as urgent as the class it belongs to."""
        return self._ranks.get(queue.partition("@")[0], len(self._ranks))

    def expects_leader(self, key: str) -> bool:
        """Whether this key was led a moment ago, so that asking first is likely to save the building of a message.

        Only a guess about speed: with the wrong one the request is folded or led all the same.
        """
        return time.monotonic() - self._led.get(key, -_LED_S) < _LED_S

    def saw_leader(self, key: str) -> None:
        """A join found that the key is led. No lock: each step on the dict is one, and in any order they are a guess."""
        now = time.monotonic()
        if now - self._led.get(key, -_LED_S) < _LED_AGAIN_S:
            return
        self._led[key] = now
        self._led.move_to_end(key)
        if len(self._led) > _LED_KEPT:
            self._led.popitem(last=False)

    @property
    def is_eager(self) -> bool:
        """`task_always_eager`, which tests switch at any time: Celery's own look through all its maps costs as much as a fold."""
        return bool(self._changes.get(_EAGER, self._eager))


_coalescers: WeakKeyDictionary[Celery, Coalescer] = WeakKeyDictionary()
_making = threading.Lock()


def is_eager(app: Celery) -> bool:
    """Whether its tasks are called in place. An app that always is may have a broker that no coalescer can be made for."""
    found = _coalescers.get(app)
    return found.is_eager if found is not None else bool(app.conf.task_always_eager)


def coalescer_of(app: Celery) -> Coalescer:
    """The app's one coalescer."""
    found = _coalescers.get(app)
    if found is None:
        with _making:
            found = _coalescers.get(app)
            if found is None:
                found = _coalescers[app] = Coalescer(app)
    return found
