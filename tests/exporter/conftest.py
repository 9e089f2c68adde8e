"""What only the tests of the exporter need."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is slow to answer, because the machine is, is not away."""
    monkeypatch.setattr("tasks.exporter.looks.ANSWER_S", 20.0)
