"""Traces, where OpenTelemetry is installed and switched on. Elsewhere nothing is imported, and each call costs a look at a name.

A story (tasks/correlation.py) says what belongs together; a trace says what took how long, and what waited for what.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

from scheduler.errors import Permanent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping
    from contextlib import AbstractContextManager

    from celery.app.task import Context as Request

    from config.settings import Traces
    from tasks.starts import Start
    from tasks.traces.otel import Tracing

_NOTHING: Final = nullcontext()

_tracing: Tracing | None = None


def start(settings: Traces) -> None:
    """Trace this process and its children, if the settings say so.

    Raises:
        Permanent: they do, and OpenTelemetry is not installed.
    """
    global _tracing  # noqa: PLW0603 - one a process, as its log is
    if not settings.enabled or _tracing is not None:
        return
    try:
        from tasks.traces.otel import Tracing  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as missing:
        raise Permanent(
            "traces are switched on, and OpenTelemetry is not installed",
            got=str(missing),
            remedy="pip install 'stoker[otel]', or set [traces] enabled = false",
        ) from missing
    _tracing = Tracing(settings.endpoint)
    _tracing.follow_tasks()


def span(name: str, **facts: Any) -> AbstractContextManager[Any]:  # noqa: ANN401 - attributes
    """What is done in this block, as a part of what is done around it. No fact may be a secret."""
    return _NOTHING if _tracing is None else _tracing.span(name, facts)


def note(**facts: Any) -> None:  # noqa: ANN401 - attributes
    """Facts that only became known inside of a span."""
    if _tracing is not None:
        _tracing.note(facts)


def add_to(headers: MutableMapping[str, Any]) -> None:
    """Give a message or a request the place in the trace where it was made, unless it has one."""
    if _tracing is not None:
        _tracing.add_to(headers)


def run_begins(request: Request, start: Start) -> None:
    """A task begins that tells so itself; it ends with its request."""
    if _tracing is not None:
        _tracing.run_begins(request, start)


def following(task: str, headers: Mapping[str, Any] | None) -> AbstractContextManager[Any]:
    """A follower's part, in its own trace, linked to the run that served it, which is what is done here."""
    return _NOTHING if _tracing is None else _tracing.following(task, headers or {})


def sending(send: Callable[..., Any]) -> Callable[..., Any]:
    """Celery's function that sends a message, traced."""
    return send if _tracing is None else _tracing.sending(send)


def statements() -> Callable[[str], AbstractContextManager[Any]] | None:
    """What traces a statement of SQL."""
    return None if _tracing is None else _tracing.statement


def trace_id() -> str | None:
    """The trace that this thread is in, as collectors write it."""
    return None if _tracing is None else _tracing.trace_id()
