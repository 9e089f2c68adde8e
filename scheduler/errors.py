"""The three kinds of failure. Refused is a normal answer, Temporary is worth a retry, Permanent needs a person."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class StokerError(Exception):
    """Something did not happen. Says what, what was expected, what was got and what to do."""

    def __init__(self, what: str, *, expected: str = "", got: str = "", remedy: str = "") -> None:
        self.what, self.expected, self.got, self.remedy = what, expected, got, remedy
        parts = (what, expected and f"expected {expected}", got and f"got {got}", remedy)
        super().__init__("; ".join(part for part in parts if part))


class Refused(StokerError):  # noqa: N818 - it is an answer, not an error
    """A rule said no. Nothing changed; asking again without a change gives the same answer."""


class Temporary(StokerError):  # noqa: N818 - named after what the caller may do
    """Something that this depends on did not answer. Nothing is known to have changed; try again."""


class Permanent(StokerError):  # noqa: N818 - named after what the caller may do
    """Trying again will not help: a person has to change something."""


def unknown(what: str, name: str, known: Sequence[str], remedy: str) -> Refused:
    """The refusal of a name that is none of these: with the nearest of them as its remedy, or else with the one given."""
    near = difflib.get_close_matches(name, known, n=1)
    return Refused(
        f"{what} {name!r} is unknown",
        expected=f"one of {', '.join(known) or '(none is configured)'}",
        remedy=f"did you mean {near[0]!r}?" if near else remedy,
    )


def check_wait(wait_s: float, longest_s: float) -> None:
    """Refuse a wait that is longer than a caller may wait, or less than none."""
    if not 0 <= wait_s <= longest_s:
        raise Refused(
            "wait out of bounds",
            expected=f"0 to {longest_s:g} s (timeouts.claim_wait_max_s)",
            got=f"{wait_s:g} s",
            remedy="wait less, and ask again",
        )
