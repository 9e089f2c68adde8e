"""Acts: the Celery app and its tasks, the launchers, the engines, the command line. `celery -A tasks` finds the app here."""

from tasks.app import app

__all__ = ["app"]
