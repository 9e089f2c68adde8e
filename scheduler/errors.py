"""The three kinds of failure. Refused is a normal answer, Temporary is worth a retry, Permanent needs a person."""

from __future__ import annotations


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
