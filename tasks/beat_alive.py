"""Beat's sign of life: a file that each of its rounds touches, whether it is the active beat or stands by.

That it runs says nothing: what matters is that its loop comes round. Any scheduler class is watched alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.signals import beat_init

from tasks.health import sign_of_life

if TYPE_CHECKING:
    from config.settings import Settings


def watch_beats(settings: Settings) -> None:
    """Have every beat that this process becomes show that it lives."""

    def watch(sender: Any, **_: Any) -> None:  # noqa: ANN401 - Celery's beat service
        path = sign_of_life(settings.locations)
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        path.touch()
        tick = sender.scheduler.tick

        def ticked(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - the scheduler's own
            wait_s = tick(*args, **options)
            path.touch()
            return wait_s

        sender.scheduler.tick = ticked

    beat_init.connect(watch, weak=False, dispatch_uid="stoker-beat-alive")
