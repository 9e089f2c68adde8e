"""Amounts as operators write them (``512Mi``, ``250m``, ``30s``), reduced to one number so that equal amounts compare equal."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_MEMORY_UNITS: Final = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_QUANTITY: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
DURATION_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?(ms|s|min|h)", re.ASCII)


def memory_bytes(text: str | int) -> int:
    """Bytes in a Kubernetes-style memory quantity: ``16384Mi`` and ``16Gi`` are the same number.

    Raises:
        ValueError: the text is no quantity; the message lists the units.
    """
    number, unit = _split(text, "memory", "512Mi")
    if unit not in _MEMORY_UNITS:
        msg = f"memory {text!r}: unknown unit {unit!r}; use one of {', '.join(u for u in _MEMORY_UNITS if u)}"
        raise ValueError(msg)
    return int(number * _MEMORY_UNITS[unit])


def cpu_millicores(text: str | float) -> int:
    """Thousandths of a core in a Kubernetes-style cpu quantity: ``0.5`` and ``500m`` are the same number.

    Raises:
        ValueError: the text is no quantity.
    """
    number, unit = _split(text, "cpu", "500m")
    if unit not in {"", "m"}:
        msg = f"cpu {text!r}: unknown unit {unit!r}; write cores (0.5) or millicores (500m)"
        raise ValueError(msg)
    return int(number if unit == "m" else number * 1000)


def duration_s(text: str) -> float | None:
    """Seconds in a time span as operators write it (``500ms``, ``30s``, ``5min``, ``2h``), to the microsecond; None is none."""
    found = _DURATION.fullmatch(text.strip())
    return None if found is None else round(float(found[1]) * DURATION_UNITS_S[found[2]], 6)


def _split(text: str | float, what: str, example: str) -> tuple[Decimal, str]:
    match = _QUANTITY.fullmatch(str(text).strip())
    if match is None:
        msg = f"{what} {text!r} is not a quantity; write it like {example}"
        raise ValueError(msg)
    return Decimal(match[1]), match[2]
