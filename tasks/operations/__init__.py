"""Operations as their users see them: submit, wait, cancel; and the steps that Celery runs for them."""

from __future__ import annotations

from tasks.operations.api import Operations
from tasks.operations.steps import StepTask

__all__ = ["Operations", "StepTask"]
