"""What sections of the page are built of: figures, keys, tiles. Pure."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def tiles(said: Iterable[tuple[str, str]]) -> str:
    """Figures writ large, each with what it is."""
    written = (f"<div class=tile><b>{escape(got)}</b><span>{escape(of)}</span></div>" for got, of in said)
    return f'<div class="tiles">{"".join(written)}</div>'


def figure(heading: str, caption: str, colours: str, drawing: str) -> str:
    """A picture with what it shows."""
    return f"<figure><h2>{escape(heading)}</h2><figcaption>{escape(caption)}</figcaption>{colours}{drawing}</figure>"


def key(entries: Iterable[tuple[str, str, str]]) -> str:
    """Names with their colours; dashed ones as a line."""
    said = (
        f'<span><i class="{style}" style="{"border-color" if style else "background"}:{colour}"></i>{escape(name)}</span>'
        for name, colour, style in entries
    )
    return f'<div class="key">{"".join(said)}</div>'
