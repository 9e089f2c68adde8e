"""Where messages may go: to the queues of the settings, and nowhere else.

A message for a queue that nobody serves is never run, and nobody is told. So whoever names one (a call, a beat entry, a
worker's `-Q`) is refused before anything is published, with the name that was probably meant.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NoReturn

from celery.app.amqp import AMQP, Queues
from celery.app.routes import Router

from scheduler.errors import unknown
from tasks import correlation, traces

if TYPE_CHECKING:
    from collections.abc import Iterable

REMEDY: Final = "name one of these, or add a table [queues.NAME] to the settings and restart the services"


def refuse(queue: str, known: Iterable[str]) -> NoReturn:
    """Refuse the name of a queue that there is not.

    Raises:
        Refused: always; it says which queues there are, and the nearest of them.
    """
    raise unknown("queue", queue, list(known), REMEDY)


class KnownQueues(Queues):
    """Celery's table of queues, which refuses a name that is not in it."""

    def __missing__(self, name: str) -> Any:  # noqa: ANN401 - a kombu queue
        """Celery's own error is a KeyError, of which it makes one without a remedy."""
        if self.create_missing:
            return super().__missing__(name)
        refuse(name, self)


class KnownRoutes(Router):
    """Celery's router, which also refuses the ways past its table: a queue as an object, an exchange, a routing key."""

    def route(
        self,
        options: dict[str, Any],
        name: str,
        args: Any = (),  # noqa: ANN401 - Celery's own signature
        kwargs: Any = None,  # noqa: ANN401
        task_type: Any = None,  # noqa: ANN401
    ) -> dict[str, Any]:
        """Where this call goes."""
        route: dict[str, Any] = super().route(options, name, args, kwargs, task_type)
        queues = self.queues
        if self.create_missing:
            return route
        if "exchange" in route or "routing_key" in route:
            exchange = route.pop("exchange", None) or ""
            asked = getattr(exchange, "name", exchange), route.pop("routing_key", None) or ""
            for queue in filter(None, asked):
                if queue not in queues:
                    refuse(queue, queues)
            if all(asked):
                # Each exchange has one queue, of its name. Sent there, the message needs no binding, which a flush forgets.
                route["queue"] = queues[asked[1]]
        if route["queue"].name not in queues:
            refuse(route["queue"].name, queues)
        return route


class KnownQueuesOnly(AMQP):
    """What a Celery app of Stoker publishes by: `Celery(..., amqp=KnownQueuesOnly)`."""

    queues_cls = KnownQueues

    def as_task_v2(
        self,
        *call: Any,  # noqa: ANN401 - Celery's own
        argsrepr: str | None = None,
        kwargsrepr: str | None = None,
        **options: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401 - Celery's message
        """The message of a task: part of the story in which it is published. A header that was given stands.

        It is without the text by which its arguments are shown, unless its sender gave one. The worker makes that
        (tasks/requests.py): it knows the names of a task's parameters, which its sender often does not.
        """
        message = super().as_task_v2(*call, argsrepr=argsrepr or "", kwargsrepr=kwargsrepr or "", **options)
        correlation.add_to(message.headers)
        return message

    @cached_property
    def send_task_message(self) -> Any:  # noqa: ANN401 - Celery's own function
        """What publishes the message of a task."""
        return traces.sending(self._create_task_sender())

    def Router(self, queues: Any = None, create_missing: bool | None = None) -> KnownRoutes:  # noqa: ANN401, FBT001, N802
        """Celery's own name of what makes its router."""
        may_create = self.app.either("task_create_missing_queues", create_missing)
        return KnownRoutes(self.routes, queues or self.queues, may_create, app=self.app)
