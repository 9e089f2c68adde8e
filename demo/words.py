"""Amounts as people read them. Pure."""

from __future__ import annotations

from typing import Any, Final

_SECOND_MS: Final = 1000.0


def duration(value_ms: float | None) -> str:
    """Milliseconds in the unit that suits them; "none" of nothing measured."""
    if value_ms is None:
        return "none"
    return f"{value_ms / _SECOND_MS:.2f} s" if value_ms >= _SECOND_MS else f"{value_ms:.1f} ms"


def spread(quantiles: dict[str, Any]) -> str:
    """Its p50 and p99."""
    return "none" if quantiles["p50"] is None else f"{duration(quantiles['p50'])} / {duration(quantiles['p99'])}"


def count(number: int, what: str) -> str:
    """So many of something, in the singular where it is one."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
