"""Traces by OpenTelemetry's SDK, sent by OTLP over HTTP. What OTEL_* variables say, its SDK reads itself.

The place in a trace travels as the W3C's `traceparent`, in the headers of messages and of requests that fold. An error's text is
in no span, for it may hold what a log hides: its kind is.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from celery import signals, states
from celery.exceptions import Ignore, Reject, Retry
from opentelemetry import context as places
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from scheduler.errors import Refused
from tasks import correlation, starts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, MutableMapping
    from contextlib import AbstractContextManager

    from celery.app.task import Context as Request

    from tasks.starts import Start

_HEADERS: Final = ("traceparent", "tracestate")
_RUN: Final = "stoker_run_span"
_PATH: Final = "/v1/traces"
_ANSWERS: Final = (Ignore, Reject, Retry, Refused)  # raised, and no errors
_FLUSH_MS: Final = 2_000


class Tracing:
    """One a process. Safe for threads and for forks: the SDK's batch starts anew in a child."""

    def __init__(self, endpoint: str = "") -> None:
        named = {"OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"} & os.environ.keys()
        resource = Resource.create(None if named else {"service.name": "stoker"})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=_whole(endpoint))))
        self._tracer = self._provider.get_tracer("stoker")
        self._propagator = TraceContextTextMapPropagator()

    def follow_tasks(self) -> None:
        """Trace each plain task that runs here; those that tell of their start themselves call `run_begins`."""
        signals.task_prerun.connect(self._prerun, dispatch_uid="stoker-traces", weak=False)
        signals.task_postrun.connect(self._postrun, dispatch_uid="stoker-traces", weak=False)
        # A child of a pool of processes ends without Python's own exit.
        signals.worker_process_shutdown.connect(self._flush, dispatch_uid="stoker-traces", weak=False)

    @contextmanager
    def span(
        self,
        name: str,
        facts: Mapping[str, Any],
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        parent: places.Context | None = None,
        **more: Any,  # noqa: ANN401 - the tracer's own
    ) -> Iterator[trace.Span]:
        """As `traces.span`."""
        span = self._tracer.start_span(name, parent, kind, _attributes(facts), **more)
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield span
            except BaseException as error:
                if not isinstance(error, _ANSWERS):
                    span.set_status(StatusCode.ERROR, type(error).__name__)
                raise

    def note(self, facts: Mapping[str, Any]) -> None:
        """As `traces.note`."""
        trace.get_current_span().set_attributes(_attributes(facts))

    def add_to(self, headers: MutableMapping[str, Any]) -> None:
        """As `traces.add_to`."""
        if _HEADERS[0] not in headers:
            self._propagator.inject(headers)

    def sending(self, send: Callable[..., Any]) -> Callable[..., Any]:
        """As `traces.sending`."""

        def send_traced(
            producer: Any,  # noqa: ANN401 - Celery's own signature
            name: str,
            message: Any,  # noqa: ANN401
            headers: Mapping[str, Any] | None = None,
            **options: Any,  # noqa: ANN401
        ) -> Any:  # noqa: ANN401
            # A request that is published for somebody brings its place along; any other is published where we are.
            others = {header: value for header, value in (headers or {}).items() if header not in _HEADERS}
            parent = self._place(headers) if headers and _HEADERS[0] in headers else None
            queue = getattr(options.get("queue"), "name", options.get("queue"))
            with self.span(f"publish {name}", {"queue": queue}, kind=SpanKind.PRODUCER, parent=parent):
                self._propagator.inject(message.headers)
                return send(producer, name, message, headers=others, **options)

        return send_traced

    def run_begins(self, request: Request, start: Start) -> None:
        """As `traces.run_begins`: how long its message had waited is a span beside it."""
        parent, now_ns = self._place(request.headers or {}), time.time_ns()
        if start.wait_s is not None:
            waited_ns = round(start.wait_s * 1e9)
            facts = _attributes({"lane_wait_s": start.lane_wait_s, "defers": start.defers})
            wait = self._tracer.start_span(
                f"wait {start.queue}", parent, attributes=facts, start_time=now_ns - waited_ns
            )
            wait.end(now_ns)
        facts = _attributes({"task_id": request.id, "queue": start.queue, "folded": start.folded})
        span = self._tracer.start_span(f"run {start.name}", parent, SpanKind.CONSUMER, facts, start_time=now_ns)
        setattr(request, _RUN, (span, places.attach(trace.set_span_in_context(span))))

    @contextmanager
    def following(self, task: str, headers: Mapping[str, Any]) -> Iterator[trace.Span]:
        """As `traces.following`: as long as the run was."""
        run = trace.get_current_span()
        with self.span(
            f"follow {task}",
            {},
            kind=SpanKind.CONSUMER,
            parent=self._place(headers),
            links=[Link(run.get_span_context())],
            start_time=getattr(run, "start_time", None),
        ) as span:
            yield span

    def statement(self, text: str) -> AbstractContextManager[Any]:
        """A statement, if it is part of anything: what looks at tables every few seconds is no trace of its own."""
        if not trace.get_current_span().get_span_context().is_valid:
            return nullcontext()
        facts = {"db.system.name": "postgresql", "db.query.text": text}
        return self.span(f"sql {_called(text)}", facts, kind=SpanKind.CLIENT)

    def trace_id(self) -> str | None:
        """As `traces.trace_id`."""
        found = trace.get_current_span().get_span_context()
        return trace.format_trace_id(found.trace_id) if found.is_valid else None

    def _place(self, headers: Mapping[str, Any]) -> places.Context:
        """Where these headers were made; nowhere, if they do not say: then a trace begins."""
        return self._propagator.extract(dict(headers), places.Context())

    def _prerun(self, task: Any, **_: Any) -> None:  # noqa: ANN401 - a Celery task
        request = task.request
        if isinstance(task, starts.StartingTask) and not request.called_directly:
            queue = (request.delivery_info or {}).get("routing_key") or ""
            self.run_begins(request, starts.Start(task.name, queue, starts.waited_s(request, time.time())))

    def _postrun(self, task: Any, state: str | None = None, retval: Any = None, **_: Any) -> None:  # noqa: ANN401
        begun = task.request.get(_RUN)
        if begun is None:
            return
        span, token = begun
        if state == states.FAILURE:
            span.set_status(StatusCode.ERROR, type(retval).__name__)
        span.set_attribute("stoker.state", state or states.SUCCESS)
        span.end()
        places.detach(token)

    def _flush(self, **_: Any) -> None:  # noqa: ANN401 - a signal's
        self._provider.force_flush(_FLUSH_MS)


def _attributes(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts under names of ours; those of OpenTelemetry's own have a dot. What is None is left out."""
    named = {
        name if "." in name else f"stoker.{name}": value if isinstance(value, str | bool | int | float) else str(value)
        for name, value in facts.items()
        if value is not None
    }
    if (story := correlation.current()) is not None:
        named["stoker.correlation_id"] = story
    return named


def _whole(endpoint: str) -> str | None:
    """The address of a collector, with the path that OTLP has for traces. None: the SDK's variables and default say it."""
    if not endpoint:
        return None
    return endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + _PATH


@lru_cache(maxsize=512)
def _called(text: str) -> str:
    """A short name of a statement: the function that it calls, or its verb and table."""
    words = " ".join(text.split())
    if found := re.match(r"select (?:\* from )?(\w+)\(", words):
        return found[1]
    if found := re.match(r"(insert into|update|delete from) (\w+)", words):
        return f"{found[1].split()[0]} {found[2]}"
    if found := re.match(r"select .* from (\w+)", words):
        return f"select {found[1]}"
    return words.partition(" ")[0]
