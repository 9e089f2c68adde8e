"""What this side and its Lua scripts both know, written into a script's head: so that it stands once."""

from __future__ import annotations


def constants(**values: str | int) -> str:
    """The lines that define these, of any text."""
    return "".join(
        f"local {name} = {value if isinstance(value, int) else _text(value)}\n" for name, value in values.items()
    )


def _text(text: str) -> str:
    return '"' + "".join(f"\\{byte:03}" for byte in text.encode()) + '"'
