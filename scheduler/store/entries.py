"""One entry of the schedule, as its row has it: what the settings say, what operators have said over it, where it stands."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from config.cadence import Cadence, Every
from config.names import TICK_TASKS
from config.schedule import NAME_PATTERN, ScheduledTask
from scheduler.core.schedule import Scheduled
from scheduler.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from scheduler.store.database import Row


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: what is in force, where it comes from, and where it stands."""

    name: str
    definition: ScheduledTask  # in force
    settings: dict[str, Any]  # what the settings say; empty: an operator's own
    overrides: dict[str, Any]  # what operators have said over it
    revision: int
    created_at: datetime
    changed_at: datetime | None
    changed_by: str | None
    anchor_at: datetime  # where an interval counts from
    due_at: datetime
    asked_at: datetime | None  # somebody wants it now, and it is not yet claimed
    asked_by: str | None
    sent: int
    missed: int  # times for which nothing was sent, because no beat ran
    cadence: Cadence | None  # None: see `fault`
    fault: str = ""  # why this version can send no such entry

    @property
    def is_own(self) -> bool:
        """Whether an operator added it: the settings have none of this name."""
        return not self.settings

    @property
    def drift(self) -> dict[str, tuple[Any, Any]]:
        """Of each field that operators have changed: what the settings say, and what is in force."""
        return {} if self.is_own else {key: (self.settings.get(key), value) for key, value in self.overrides.items()}

    @property
    def scheduled(self) -> Scheduled | None:
        """As the decision sees it; None of one that cannot be sent."""
        if self.cadence is None:
            return None
        return Scheduled(self.name, self.cadence, self.definition.enabled, self.due_at, self.asked_at)

    def in_force(self) -> dict[str, Any]:
        """As the history tells it."""
        return {**self.settings, **self.overrides}


def entry_of(row: Row) -> Entry:
    """From a row of `schedule`, with what is in force as text."""
    definition, cadence, fault = _read(row.pop("in_force"))
    return Entry(definition=definition, cadence=cadence, fault=fault, **row)


@lru_cache(maxsize=2_048)
def _read(in_force: str) -> tuple[ScheduledTask, Cadence | None, str]:
    """Read once: whoever sends looks at every entry each second."""
    try:
        definition = ScheduledTask.model_validate_json(in_force)
    except ValidationError as error:
        # Written by another version, or for a zone that this machine does not know. It stops no other entry.
        return ScheduledTask.model_construct(**json.loads(in_force)), None, str(error)
    return definition, definition.when, ""


def checked(name: str, fields: Mapping[str, Any]) -> ScheduledTask:
    """The entry of that name that these fields make. Refused: they make none."""
    if not re.fullmatch(NAME_PATTERN, name):
        expect = "1 to 128 letters, digits and ._:-, a letter or digit first"
        raise Refused("an entry cannot have this name", expected=expect, got=repr(name), remedy="choose another")
    try:
        return ScheduledTask.model_validate(fields)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'entry'}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        )
        raise Refused(f"{name} would be no entry", got=faults, remedy="mend what is named") from error


def check_tick(name: str, settings: Mapping[str, Any], in_force: Mapping[str, Any]) -> None:
    """Leases, tickets and deadlines are reckoned with the ticks of the settings: live they may only come more often."""
    if name not in TICK_TASKS or not settings:
        return
    for field in ("task", "args", "kwargs"):
        if in_force[field] != settings[field]:
            remedy = "add an entry of another name for it"
            raise Refused(f"{name} is a tick of the pool: its {field} cannot be changed", remedy=remedy)
    now, then = (ScheduledTask.model_validate(fields).when for fields in (in_force, settings))
    if not isinstance(now, Every) or not isinstance(then, Every) or now.seconds > then.seconds:
        raise Refused(
            f"{name} is a tick of the pool, whose leases are reckoned with it",
            expected=f"an interval of at most {settings['cadence']}",
            got=in_force["cadence"],
            remedy=f"raise schedule.{name.rpartition('.')[2]}_s in the settings: they are checked as a whole",
        )
