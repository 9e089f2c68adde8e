"""Correlation ids: one name for all that follows from one claim or submit, chosen by its caller or made for it."""

from __future__ import annotations

import re
from typing import Final

from scheduler.errors import Refused

LONGEST: Final = 64
# Printable ASCII without the space: it is searched for in logs, and goes into a header as it is.
_WHOLE: Final = re.compile(rf"[!-~]{{1,{LONGEST}}}", re.ASCII)
FORM: Final = f"1 to {LONGEST} printable ASCII characters without a space"
IN_SQL: Final = f"correlation_id ~ '^[!-~]{{1,{LONGEST}}}$'"


def is_correlation_id(value: object) -> bool:
    """Whether it may be one."""
    return isinstance(value, str) and _WHOLE.fullmatch(value) is not None


def check_correlation_id(value: str) -> str:
    """The id, if it may be one.

    Raises:
        Refused: it is empty, too long, or has a character that is not printable ASCII.
    """
    if not is_correlation_id(value):
        raise Refused(
            "correlation id",
            expected=FORM,
            got=repr(value)[:80],
            remedy="give a shorter, plainer one, or none: one is made",
        )
    return value
