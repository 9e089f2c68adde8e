"""Log lines: an event and its facts, through the standard library, so that Celery's own handlers and levels apply.

Whatever the form: no secret is in them. What comes from a library (Celery, kombu, redis-py) is written in the same form.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal

import structlog
from celery import signals
from celery._state import get_current_task

from tasks import correlation, traces

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping, MutableMapping

    from structlog.typing import Processor

HIDDEN: Final = "[hidden]"
_LONGEST: Final = 8_192  # characters of one fact of a line
_SECRET_KEYS: Final = re.compile(r"password|passwd|secret|token|activation_key|authorization", re.IGNORECASE)
# From the :// on: to look for the scheme before it takes the square of the length of a long word.
_PASSWORD_IN_URL: Final = re.compile(r"(?P<before>://[^\s:/@]*:)[^\s/@]+(?=@)")


def configure_logs(form: Literal["console", "json"] = "console") -> None:
    """Have structlog render each event as `event key=value ...` into the logger of its module, or all lines be JSON."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            add_story,
            structlog.processors.format_exc_info,
            hide_secrets,
            # Rendered by the handler, together with the lines of libraries.
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter
            if form == "json"
            else structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    if form == "json":
        # Celery makes the handlers of its processes, and tells when they are there.
        for made in (signals.after_setup_logger, signals.after_setup_task_logger):
            made.connect(_write_json, dispatch_uid="stoker-json", weak=False)


def json_formatter() -> structlog.stdlib.ProcessorFormatter:
    """One JSON object a line, whoever wrote it: at, level, logger, event, its facts, the task and the story it was written in."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        add_task,
        add_story,
    ]
    return structlog.stdlib.ProcessorFormatter(
        processors=[
            *shared,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            hide_secrets,
            structlog.processors.JSONRenderer(default=str),
        ]
    )


def add_task(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401
    """The task that runs in this thread; `root_id` is that of the first of all that it follows from."""
    task = get_current_task()
    if task is not None and task.request.id:
        event.setdefault("task", task.name)
        event.setdefault("task_id", task.request.id)
        event.setdefault("root_id", task.request.root_id)
    return event


def add_story(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401
    """The correlation id of the claim or submit that this thread works for, and its trace where there are any."""
    if (id_ := correlation.current()) is not None:
        event.setdefault("correlation_id", id_)
    if (trace_id := traces.trace_id()) is not None:
        event.setdefault("trace_id", trace_id)
    return event


def hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401
    """What is called by the name of a secret, and passwords in URLs, wherever they stand."""
    for key, value in event.items():
        if not key.startswith("_"):  # structlog's own
            event[key] = HIDDEN if _SECRET_KEYS.search(key) else _without_secrets(value)
    return event


def hidden_if_secret(name: str, value: Any) -> Any:  # noqa: ANN401 - any fact
    """What may be shown of a value of this name; what is inside of a list or dict is not looked at."""
    if _SECRET_KEYS.search(name):
        return HIDDEN
    return _PASSWORD_IN_URL.sub(rf"\g<before>{HIDDEN}", value) if isinstance(value, str) else value


def _without_secrets(value: Any) -> Any:  # noqa: ANN401 - any fact
    match value:
        case str():
            return _cut(hidden_if_secret("", value))
        case dict():
            return {
                key: HIDDEN if _SECRET_KEYS.search(str(key)) else _without_secrets(part) for key, part in value.items()
            }
        case list() | tuple():
            return [_without_secrets(part) for part in value]
        case _:
            return value


def _cut(text: str) -> str:
    """Its two ends, where a line would be too long: of a traceback the last words count most."""
    left_out = len(text) - _LONGEST
    if left_out <= 0:
        return text
    return f"{text[: _LONGEST // 2]} [{left_out} characters left out] {text[-_LONGEST // 2 :]}"


def _write_json(logger: logging.Logger, **_: Mapping[str, Any]) -> None:
    for handler in logger.handlers:
        handler.setFormatter(json_formatter())
