"""Log lines: an event and its facts, through the standard library, so that Celery's own handlers and levels apply."""

from __future__ import annotations

import structlog


def configure_logs() -> None:
    """Have structlog render each event as `event key=value ...` into the logger of its module."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
