"""What beat sends, and when: an entry of the schedule, as the settings write it and as an operator may change it live."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Final, Self

from pydantic import Field, JsonValue, ValidationInfo, field_validator, model_validator

from config.cadence import LEAST_INTERVAL_S, Cadence, parse, text_of
from config.frozen import Frozen, hint
from config.names import SWEEP_TASK, TICK_TASKS

if TYPE_CHECKING:
    from collections.abc import Sequence

# A message for each of them is made anew at each due time: what is larger belongs where the task looks for it.
MOST_ARGUMENTS: Final = 16_384  # characters of args and kwargs as JSON

_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # in JSON; \\u0000 is a backslash and five letters
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"
EntryName = Annotated[str, Field(pattern=NAME_PATTERN)]
TaskName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.:-]{0,254}$")]
QueueOf = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}(@[A-Za-z0-9._-]{1,128})?$")]
Period = Annotated[float, Field(ge=LEAST_INTERVAL_S, le=86_400)]


class ScheduledTask(Frozen):
    """One entry: a task, when it is due, and how it is sent."""

    task: TaskName
    zone: str = "UTC"  # whose clock a crontab reads
    cadence: str  # an interval (30s, 5min) or the five fields of a crontab
    args: tuple[JsonValue, ...] = ()
    kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    queue: QueueOf | None = None  # None = where the routes send the task
    expires_s: float | None = Field(
        default=None, gt=0, le=7 * 86_400
    )  # not begun for so long, it is dropped; None = never
    enabled: bool = True

    @field_validator("cadence")
    @classmethod
    def _in_one_way(cls, text: str, info: ValidationInfo) -> str:
        """One text for one cadence, so that two of them can be compared."""
        return text_of(parse(text, info.data.get("zone", "UTC")))

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        try:
            text = json.dumps([self.args, self.kwargs], allow_nan=False, ensure_ascii=False)
            text.encode()
        except ValueError as error:
            msg = f"args and kwargs must be JSON, which has no NaN, no infinity and no half of a character: {error}"
            raise ValueError(msg) from error
        size = len(text)
        if size > MOST_ARGUMENTS:
            msg = f"args and kwargs are {size} characters as JSON; at most {MOST_ARGUMENTS}: send where to look instead"
            raise ValueError(msg)
        if _NUL.search(text):
            msg = "args and kwargs are kept as JSON in PostgreSQL, whose texts hold no character 0: leave it out"
            raise ValueError(msg)
        return self

    @property
    def when(self) -> Cadence:
        """When it is due."""
        return parse(self.cadence, self.zone)


class Schedule(Frozen):
    """Periods of the pool's own ticks, in seconds, and what else is to be sent."""

    reconcile_s: Period = 5.0
    reap_s: Period = 15.0
    sweep_s: Period = 10.0
    entries: dict[EntryName, ScheduledTask] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _leaves_the_ticks(self) -> Self:
        for name in TICK_TASKS:
            if name in self.entries:
                key = name.rpartition(".")[2]
                msg = (
                    f"schedule.entries.{name} is a tick of the pool; set schedule.{key}_s, or name the entry otherwise"
                )
                raise ValueError(msg)
        return self

    @property
    def everything(self) -> dict[str, ScheduledTask]:
        """All entries by name: the ticks first."""
        ticks = {
            task: ScheduledTask(
                task=task,
                cadence=f"{period_s:.3f}s",
                # The sweep does not coalesce: one that could not begin before the next is due is not needed any more.
                expires_s=period_s if task == SWEEP_TASK else None,
            )
            for task, period_s in zip(TICK_TASKS, (self.reconcile_s, self.reap_s, self.sweep_s), strict=True)
        }
        return {**ticks, **self.entries}


def broken_entries(schedule: Schedule, queues: Sequence[str]) -> list[str]:
    """Which entries are sent to a queue that there is not, each with its remedy; empty when none is."""
    wrong = []
    for name, entry in schedule.entries.items():
        if entry.queue is not None and entry.queue not in queues:
            wrong.append(f"schedule.entries.{name}.queue = {entry.queue!r}: unknown queue{hint(entry.queue, queues)}")
    return wrong
