"""The Celery task class whose requests fold: join when published, begin and settle when run.

A request that folds publishes nothing; the run that serves it stores its result, calls its callbacks and publishes the rest
of its chain. Invariants I20 to I28 say what holds; scheduler/redis/coalescing holds the protocol.
"""

from __future__ import annotations

import time
import traceback
from contextlib import contextmanager
from dataclasses import replace
from inspect import getattr_static
from os import urandom
from typing import TYPE_CHECKING, Any, ClassVar, Final
from uuid import uuid4

import redis
import structlog
from celery import Task, states
from celery._state import get_current_task
from celery.exceptions import Ignore, Reject, Retry
from celery.utils.time import maybe_iso8601
from kombu.exceptions import OperationalError

from scheduler.errors import Refused
from scheduler.redis.coalescing import Ask, Begun, BegunRun, Settled, Verdict
from tasks import correlation, starts, traces
from tasks.coalescing import handing, payload
from tasks.coalescing.coalescer import coalescer_of, is_eager
from tasks.coalescing.columns import OWN_KEY, Columns
from tasks.coalescing.execution import EXECUTION, Execution
from tasks.coalescing.publishing import catching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from celery import Celery
    from celery.app.task import Context
    from celery.result import AsyncResult

log = structlog.get_logger(__name__)

_QUEUE: Final = "queue"


class CoalescingTask(Task):
    """Base for tasks of which many are asked for and one run will do.

    A request made while one of the same key is queued finishes with that one's run and result. A request made while one
    RUNS leads a run of its own: it may have come too late for the other to see its reason.
    """

    abstract = True
    # The run's message outlives its worker; and a run is not acknowledged before its followers have been told.
    acks_late = True
    # Stored when it begins instead: a message that only parks has started nothing.
    track_started = False
    Request = "tasks.coalescing.request:CoalescingRequest"

    key: ClassVar[Sequence[str] | None] = None  # parameters that decide the effect; None = all of them
    lane: ClassVar[Sequence[str] | str | None] = OWN_KEY  # parameters that name the target; None = runs may overlap
    barrier: ClassVar[bool] = False  # nothing folds across it on its lane

    _own_route: Any = None  # where a table of routes sends every call
    _key: ClassVar[Columns]
    _lane: ClassVar[Columns | None]

    @classmethod
    def on_bound(cls, app: Celery) -> None:
        """Check what was declared, once, where a mistake stops the start."""
        super().on_bound(app)
        run = cls.run
        bound = not isinstance(getattr_static(cls, "run"), staticmethod)
        cls._key = Columns(run, cls.key, bound=bound)
        cls._lane = None if cls.lane is None or cls.lane == OWN_KEY else Columns(run, cls.lane, bound=bound)
        if cls.barrier and cls._lane is None:
            raise TypeError(f"{cls.name}: a barrier needs a lane; name the parameters of its target in `lane`")
        if not cls._key.names and cls.key is not None:
            raise TypeError(f"{cls.name}: its key is empty, and would match everything; name what decides the effect")

    def apply_async(  # noqa: PLR0917 - Celery's own signature
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,  # noqa: ANN401 - kombu's
        link: Any = None,  # noqa: ANN401 - signatures
        link_error: Any = None,  # noqa: ANN401
        shadow: str | None = None,
        **options: Any,  # noqa: ANN401
    ) -> AsyncResult:
        """As any task's: but a request that folds publishes nothing.

        Raises:
            Refused: a column of the key is empty or ambiguous, or the run has all the followers it may have.
            kombu.exceptions.OperationalError: the broker did not answer.
        """
        args, kwargs = args or (), kwargs or {}
        more = {"link": link, "link_error": link_error, "shadow": shadow, **options}
        if is_eager(self.app):
            return super().apply_async(args, kwargs, task_id=task_id, producer=producer, **more)
        task_id = task_id or _new_id()
        if more.get("retries"):
            return self._ask_again(args, kwargs, task_id, producer, more)
        if self.typing and (check := getattr(self, "__header__", None)):
            check(*args, **kwargs)
        ask = self._asked(args, kwargs, task_id, more)
        if more.get("countdown") or more.get("eta"):
            # For others to wait for what is not due yet would hold them up: it joins when a worker begins it.
            return super().apply_async(args, kwargs, task_id=task_id, producer=producer, **more)
        return self._result(task_id, more, self._join(ask, args, kwargs, producer, more))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any task
        """Called by Celery's tracer: begin, run, tell the followers."""
        request = self.request
        if request.is_eager:
            return self.run(*args, **kwargs)
        if request.called_directly or request.get(EXECUTION):  # a call like any function's, maybe from the run itself
            return super().__call__(*args, **kwargs)
        execution = self._begin(request, args, kwargs)
        try:
            return self._run_for_all(execution, args, kwargs)
        finally:
            coalescer_of(self.app).heart.remove(execution)

    def after_return(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - Celery's own signature
        """Called by Celery's tracer when the result stands and what follows it is published: now the run is done.

        Not before: a crash in between repeats and never loses. Who overrides this calls it.
        """
        execution: Execution | None = self.request.get(EXECUTION)
        if execution is not None and execution.told:
            coalescer_of(self.app).protocol.done(execution.id, execution.token)

    def _run_for_all(self, execution: Execution, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Run, and tell the followers."""
        followers = execution.begun.followers
        try:
            result = self.execute(execution, args, kwargs)
        except Retry:
            with _or_again():
                self._retry(execution)
            raise
        except Reject as rejected:
            with _or_again():
                if not rejected.requeue:  # else the worker settles when it returns the message
                    self.give_up(execution.id, execution.token)
            raise
        except Ignore:
            with _or_again():
                coalescer_of(self.app).protocol.done(execution.id, execution.token)
            raise
        except Exception as error:
            with _or_again():
                handing.fail(self, followers, error, traceback.format_exc())
            execution.told = True
            raise
        with _or_again():
            if execution.retry:
                self._retry(execution)
            else:
                handing.succeed(self, followers, result)
                execution.told = True
        return result

    def execute(self, execution: Execution, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """The run itself, for classes that do more around it than call `run`: they tell of its start when it has begun."""
        starts.tell(self.app, self.request, execution.start)
        return self.run(*args, **kwargs)

    def replace(self, sig: Any) -> Any:  # noqa: ANN401, ARG002 - Celery's own signature
        """Refused: those who follow this run would never hear of what replaced it."""
        raise Refused(f"{self.name} cannot replace itself", remedy="let it return, and chain what comes next")

    def give_up(self, id_: str, token: str = "") -> Settled:
        """The request will not run: its first follower leads in its place, at once."""
        settled = coalescer_of(self.app).protocol.give_up(id_, token)
        if settled.verdict is Verdict.HEIR:
            self.publish(settled.other, settled.payload)
        return settled

    def give_up_waiting(self, id_: str) -> Settled | None:
        """The same, unless it has begun: a run under way serves whoever follows it to the end. None: it has."""
        if coalescer_of(self.app).protocol.state(id_) == Verdict.RUNNING:
            return None
        return self.give_up(id_)

    def was_revoked(self, id_: str) -> None:
        """Somebody revoked this request, before it led or followed a run to its end. For classes that remember it elsewhere."""

    def publish(self, id_: str, text: str) -> None:
        """Publish a request that leads and has no message, or had none that could be found."""
        request = payload.Payload.read(text)
        _, args, kwargs, options = request
        # Whoever publishes it works for another story, or for none.
        with correlation.within(request.story):
            self._join(self._asked(args, kwargs, id_, options), args, kwargs, None, options)

    def _join(
        self,
        ask: Ask,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        producer: Any,  # noqa: ANN401 - kombu's
        options: Mapping[str, Any],
    ) -> AsyncResult | None:
        """Fold, or publish and lead in one step: then Celery has made its result already."""
        made = None
        coalescer = coalescer_of(self.app)
        verdict = Verdict.VACANT
        # A list of another priority than 0 has a name that only the channel knows.
        if coalescer.expects_leader(ask.key) and not (options.get("priority") or self.priority):
            verdict = self._reaching(lambda: coalescer.protocol.join(ask)).verdict
        if verdict is Verdict.VACANT:
            said = []

            def lead(queue: str, message: str, tag: str) -> None:
                there = replace(ask, queue=coalescer.prefix + queue)
                said.append(coalescer.protocol.join(there, message, tag).verdict)
                traces.note(joined=said[-1])

            made = self._build(args, kwargs, ask.id, producer, options, lead)
            verdict = said[-1]
        coalescer.saw_leader(ask.key)
        if verdict is Verdict.FULL:
            raise self._full(ask)
        return made

    def _ask_again(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        task_id: str,
        producer: Any,  # noqa: ANN401 - kombu's
        options: Mapping[str, Any],
    ) -> AsyncResult:
        """A retry: the same request, to begin once more. By the task itself it is published when its execution has ended."""
        execution: Execution | None = self.request.get(EXECUTION)
        caught = self._message(args, kwargs, task_id, producer, options)
        retry = (caught[1], caught[2], self._due_in_s(options))
        if execution is not None and execution.id == task_id:
            execution.retry = retry
        else:
            protocol = coalescer_of(self.app).protocol
            if self._reaching(lambda: protocol.again(task_id, "", *retry)).verdict is Verdict.LOST:
                self._join(self._asked(args, kwargs, task_id, options), args, kwargs, producer, options)
        return self._result(task_id, options)

    def _retry(self, execution: Execution) -> None:
        if execution.retry is None:  # raised without self.retry(): no message is under way
            self.give_up(execution.id, execution.token)
            return
        protocol = coalescer_of(self.app).protocol
        if protocol.again(execution.id, execution.token, *execution.retry).verdict is Verdict.LOST:
            # Redis has forgotten the run: it is asked for anew. If another has begun in its place, this changes nothing.
            message, tag, _ = execution.retry
            protocol.join(execution.ask, message, tag)

    def _begin(self, request: Context, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Execution:
        """The run begins; or its message is dropped, because another carries what it asks."""
        coalescer = coalescer_of(self.app)
        delivery = request.delivery_info or {}
        options = {**request.as_execution_options(), "priority": delivery.get("priority")}
        options = {name: value for name, value in options.items() if value is not None and name != "task_id"}
        options[_QUEUE] = delivery.get("routing_key") or self.app.conf.task_default_queue
        options["ignore_result"] = bool(request.ignore_result)
        ask = self._asked(args, kwargs, request.id, options)
        token = delivery.get(EXECUTION) or uuid4().hex
        try:
            begun = coalescer.protocol.begin(ask.id, token)
            if begun.verdict is Verdict.UNKNOWN:
                begun = self._adopt(ask, args, kwargs, options, token)
        except redis.RedisError as error:
            # Nothing has begun. What the broker holds unacknowledged it hands out again.
            raise Reject(str(error), requeue=True) from error
        if begun.verdict is Verdict.FULL:
            raise self._full(ask)
        if not isinstance(begun, BegunRun):
            raise Ignore(f"{begun.verdict} {begun.other}".strip())
        start = starts.Start(
            self.name,
            begun.queue.removeprefix(coalescer.prefix),
            starts.waited_s(request, time.time()),
            begun.lane_wait_s,
            begun.defers,
            len(begun.followers),
        )
        execution = request.execution = Execution(ask, token, begun, start)
        traces.run_begins(request, start)
        coalescer.heart.add(execution)
        if self.app.conf.task_track_started and not request.ignore_result:
            self.backend.store_result(ask.id, {"hostname": request.hostname}, states.STARTED, request=request)
        return execution

    def _adopt(
        self, ask: Ask, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any], token: str
    ) -> Begun | BegunRun:
        """A message of which Redis knows nothing: it was flushed, or the request was not due before. It joins now."""
        protocol = coalescer_of(self.app).protocol
        queue, message, tag = self._message(args, kwargs, ask.id, None, options)
        joined = protocol.join(replace(ask, queue=queue), message, tag, in_hand=True)
        if joined.verdict is not Verdict.LEAD:
            return Begun(joined.verdict, joined.leader)
        return protocol.begin(ask.id, token)

    def _asked(self, args: Sequence[Any], kwargs: Mapping[str, Any], id_: str, options: Mapping[str, Any]) -> Ask:
        name = self.name
        key = name + self._key.read(name, args, kwargs)
        if self._lane is not None:
            lane = "/".join(self._lane.names) + self._lane.read(name, args, kwargs)
        else:
            lane = key if self.lane == OWN_KEY else ""
        coalescer = coalescer_of(self.app)
        queue = options.get(_QUEUE) or getattr(self, _QUEUE, None) or self._routed(args, kwargs)
        queue = queue if isinstance(queue, str) else queue.name
        if queue not in self.app.amqp.queues:
            # Who follows publishes nothing, and would not be told that there is no such queue.
            queue = self.app.amqp.queues[queue].name
        text = payload.write(name, args, kwargs, {**self._completed(id_, options), _QUEUE: queue})
        return Ask(id_, key, lane, coalescer.rank(queue), coalescer.prefix + queue, text, self.barrier)

    def _routed(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a kombu queue
        if self._own_route is None:
            route = self.app.amqp.router.route({}, self.name, args, kwargs, self)[_QUEUE]
            if not isinstance(self.app.conf.task_routes, dict | None):
                return route  # a function may send each call somewhere else
            self._own_route = route
        return self._own_route

    def _completed(self, id_: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """With what Celery would add of the task itself, and of the task that asks."""
        parent = self._asking()
        own = {"ignore_result": self.ignore_result, "expires": self.expires, "priority": self.priority}
        asked = {**own, **options}
        if parent and parent.request.id != id_:
            asked["root_id"] = asked.get("root_id") or parent.request.root_id or parent.request.id
            asked["parent_id"] = asked.get("parent_id") or parent.request.id
        # A request that folds is never a message: its story is in what it leaves.
        headers = dict(asked.get("headers") or {})
        correlation.add_to(headers)
        traces.add_to(headers)
        if headers:
            asked["headers"] = headers
        return asked

    def _asking(self) -> Task | None:
        """The task that a worker runs here, if any; quickly, where none runs at all."""
        return None if get_current_task() is None else self.app.current_worker_task

    def _message(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        id_: str,
        producer: Any,  # noqa: ANN401 - kombu's
        options: Mapping[str, Any],
    ) -> tuple[str, str, str]:
        """List, message and delivery tag of the request, built and not published."""
        caught: list[tuple[str, str, str]] = []
        self._build(args, kwargs, id_, producer, options, lambda *command: caught.append(command))
        queue, message, tag = caught[-1]
        return coalescer_of(self.app).prefix + queue, message, tag

    def _build(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        id_: str,
        producer: Any,  # noqa: ANN401 - kombu's
        options: Mapping[str, Any],
        publish: Callable[[str, str, str], None],
    ) -> AsyncResult:
        """Send the request as Celery does, and let `publish` have its message."""
        how = {**options, "add_to_parent": False}
        if connection := how.pop("connection", None):  # Celery would make a producer of it that catches nothing
            producer = self.app.amqp.Producer(connection, auto_declare=False)
        with self.app.producer_or_acquire(producer) as open_producer, catching(open_producer, publish):
            return super().apply_async(args, kwargs, task_id=id_, producer=open_producer, **how)

    def _result(self, id_: str, options: Mapping[str, Any], made: AsyncResult | None = None) -> AsyncResult:
        result = made or coalescer_of(self.app).result(id_, self.backend)
        result.ignored = options.get("ignore_result", self.ignore_result)
        parent = self._asking()
        if parent and options.get("add_to_parent", True):
            parent.add_trail(result)
        return result

    def _full(self, ask: Ask) -> Refused:
        what = f"{self.name}: too many requests follow one run"
        return Refused(what, got=ask.key, remedy="wait for the run, or see why it is not taken (`stoker status`)")

    def _reaching(self, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the call returns
        try:
            return call()
        except redis.RedisError as error:
            # The error that callers of apply_async know for a broker that is gone.
            raise OperationalError(str(error)) from error

    def _due_in_s(self, options: Mapping[str, Any]) -> float:
        if options.get("countdown"):
            return float(options["countdown"])
        eta: datetime | None = maybe_iso8601(options.get("eta"))
        return max(0.0, (eta - self.app.now()).total_seconds()) if eta else 0.0


def _new_id() -> str:
    """A random UUID, as `uuid4` makes them in three times the time."""
    text = urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{'89ab'[int(text[16], 16) % 4]}{text[17:20]}-{text[20:]}"


@contextmanager
def _or_again() -> Iterator[None]:
    """What could not be told or settled is by the next execution: the message goes back to the broker."""
    try:
        yield
    except handing.PASSING as error:
        raise Reject(str(error), requeue=True) from error
