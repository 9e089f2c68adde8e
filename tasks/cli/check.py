"""What `stoker doctor` finds of one assumption."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One assumption: whether it holds, what was found, and what to do if not."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
