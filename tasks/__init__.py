"""Acts: the Celery app and its tasks, the launchers, the engines, the command line. `celery -A tasks` finds the app here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery import Celery

    app: Celery


def __getattr__(name: str) -> Celery:
    """The Celery app, made when first asked for: a command that reports broken settings must not need them to be right."""
    if name != "app":
        msg = f"module 'tasks' has no attribute {name!r}"
        raise AttributeError(msg)
    from tasks.celery_app import app as celery_app  # noqa: PLC0415 - see above

    return celery_app
