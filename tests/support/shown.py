"""Figures of a test, for who reads its output: `pytest -rP`, or when it fails."""

from __future__ import annotations


def show(what: str, figure: object) -> None:
    """One line."""
    print(f"{what}: {figure}")  # noqa: T201 - pytest keeps it
