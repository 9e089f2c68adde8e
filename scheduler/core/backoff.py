"""How long a profile whose spawns fail is left alone. It waits alone: no other profile feels it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta


class Pace(StrEnum):
    """What a kind of failure means for the profile's next spawns."""

    NONE = "none"  # no fault of the profile's: at once
    GROWING = "growing"  # may pass: longer each time
    LONGEST = "longest"  # until a person changes something: as seldom as it gets


@dataclass(frozen=True, slots=True)
class SpawnRecord:
    """A profile's run of failed spawns."""

    failures: int = 0
    until: datetime | None = None


def after_failure(
    record: SpawnRecord,
    slot_created: datetime,
    now: datetime,
    *,
    first: timedelta,
    longest: timedelta,
    pace: Pace = Pace.GROWING,
) -> SpawnRecord:
    """The record after one more failed spawn.

    Thirty slots created together and failing together are one piece of news: only a slot created after the last
    back-off ended lengthens it, or one bad image would jump straight to the longest wait.
    """
    if pace is Pace.NONE or (record.until is not None and slot_created < record.until):
        return record
    failures = record.failures + 1
    if pace is Pace.LONGEST:
        return SpawnRecord(failures, now + longest)
    return SpawnRecord(failures, now + min(longest, first * 2 ** min(failures - 1, 30)))
