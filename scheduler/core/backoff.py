"""How long a profile whose spawns fail is left alone. It waits alone: no other profile feels it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class SpawnRecord:
    """A profile's run of failed spawns."""

    failures: int = 0
    until: datetime | None = None


def after_failure(
    record: SpawnRecord, slot_created: datetime, now: datetime, *, first: timedelta, longest: timedelta
) -> SpawnRecord:
    """The record after one more failed spawn.

    Thirty slots created together and failing together are one piece of news: only a slot created after the last
    back-off ended lengthens it, or one bad image would jump straight to the longest wait.
    """
    if record.until is not None and slot_created < record.until:
        return record
    failures = record.failures + 1
    return SpawnRecord(failures, now + min(longest, first * 2 ** min(failures - 1, 30)))
