"""What an edit of the schedule asks for, checked before anything is changed: its texts, its task, its arguments, its queue."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from config.cadence import Cron, Every, parse, text_of
from config.quantity import duration_s
from config.schedule import MOST_ARGUMENTS
from scheduler.errors import Refused, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from celery import Celery

    from config.settings import Settings
    from scheduler.store.entries import Entry

NONE: Final = "-"  # what an operator writes for: none of it
_BUILT_IN: Final = "celery."


@dataclass(frozen=True)
class Edit:
    """The options of `stoker schedule set`, as they were written; None leaves a field as it is."""

    every: str | None = None
    cron: str | None = None
    zone: str | None = None
    task: str | None = None
    args: str | None = None
    kwargs: str | None = None
    queue: str | None = None
    expires: str | None = None

    def fields(self, now: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that it changes of an entry that says `now`; nothing, of one that there is not.

        Raises:
            Refused: one of its texts is wrong, or it says nothing.
        """
        if self == Edit():
            remedy = "name what is to change: --every, --cron, --zone, --task, --args, --kwargs, --queue, --expires"
            raise Refused("nothing to set", expected="an option", remedy=remedy)
        changed: dict[str, Any] = self._cadence(now)
        if self.task is not None:
            changed["task"] = self.task
        if self.args is not None:
            changed["args"] = _json("args", self.args, list, '["acme", 5]')
        if self.kwargs is not None:
            changed["kwargs"] = _json("kwargs", self.kwargs, dict, '{"tenant": "acme"}')
        if self.queue is not None:
            changed["queue"] = None if self.queue == NONE else self.queue
        if self.expires is not None:
            changed["expires_s"] = _expires_s(self.expires)
        return changed

    def _cadence(self, now: Mapping[str, Any]) -> dict[str, str]:
        if self.every is not None and self.cron is not None:
            raise Refused("two cadences", expected="--every or --cron", remedy="name the one that is to hold")
        said = [text for text in (self.every, self.cron) if text is not None]
        if not said and (self.zone is None or "cadence" not in now):
            return {}
        text = said[0] if said else now["cadence"]
        zone = now.get("zone", "UTC") if self.zone is None else self.zone
        try:
            cadence = parse(text, zone)
        except ValueError as error:
            raise Refused(str(error)) from error
        if self.every is not None and not isinstance(cadence, Every):
            raise Refused("no interval", expected="500ms, 30s, 5min, 2h", got=repr(text), remedy="give it as --cron")
        if self.cron is not None and not isinstance(cadence, Cron):
            raise Refused("no crontab", expected="five fields", got=repr(text), remedy="give it as --every")
        if self.zone is not None and not isinstance(cadence, Cron):
            remedy = "give a crontab with it: --cron '30 2 * * *' --zone Europe/Berlin"
            raise Refused("an interval has no time zone", got=text_of(cadence), remedy=remedy)
        zoned = {} if self.zone is None else {"zone": self.zone}
        return {"cadence": text_of(cadence), **zoned}


def check_entry(fields: Mapping[str, Any], app: Celery, settings: Settings) -> None:
    """Refuse an entry that would be sent in vain: to no task, with arguments that it does not take, to no queue."""
    task = known_task(app, fields["task"])
    try:
        # What Celery itself asks when a task is sent.
        task.__header__(*fields.get("args", ()), **fields.get("kwargs", {}))
    except TypeError as error:
        raise Refused(
            f"task {task.name} does not take these arguments",
            got=str(error),
            remedy="give those that it takes: --args '[...]', --kwargs '{...}'",
        ) from error
    queue = fields.get("queue")
    if queue is not None and queue not in settings.all_queues:
        remedy = f"`stoker queues` shows those that there are; {NONE!r} is where the routes send the task"
        raise unknown("queue", queue, settings.all_queues, remedy)


def faults(entries: Iterable[Entry], app: Celery, settings: Settings) -> list[str]:
    """What keeps entries that are due from being sent, or from being run once they are."""
    found = []
    for entry in entries:
        if entry.fault:
            found.append(f"{entry.name}: {entry.fault}")
        elif entry.definition.enabled:
            try:
                check_entry(entry.in_force(), app, settings)
            except Refused as refusal:
                found.append(f"{entry.name}: {refusal}")
    return found


def known_task(app: Celery, name: str) -> Any:  # noqa: ANN401 - a Celery task is untyped
    """The task of that name. Refused: the app has none."""
    app.loader.import_default_modules()
    names = sorted(known for known in app.tasks if not known.startswith(_BUILT_IN))
    if name not in names:
        raise unknown("task", name, names, "name one that this deployment registers")
    return app.tasks[name]


def _json(field: str, text: str, kind: type, example: str) -> Any:  # noqa: ANN401 - JSON
    if len(text) > MOST_ARGUMENTS:
        remedy = "send where to look instead"
        raise Refused(
            f"{field} too large", expected=f"at most {MOST_ARGUMENTS} characters", got=str(len(text)), remedy=remedy
        )
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{field} is no JSON", got=str(error), remedy=f"write it like '{example}'") from error
    if not isinstance(value, kind):
        expected = "a JSON array" if kind is list else "a JSON object"
        raise Refused(field, expected=expected, got=text[:80], remedy=f"write it like '{example}'")
    return value


def _expires_s(text: str) -> float | None:
    seconds = duration_s(text)
    if seconds is None and text != NONE:
        remedy = f"write it like 30s or 5min, or {NONE!r} for never"
        raise Refused("expires", expected="a number and its unit", got=repr(text), remedy=remedy)
    return seconds
