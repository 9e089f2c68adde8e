"""Requests for the same effect share one run: the protocol as atomic scripts, and the typed functions that call them."""

from __future__ import annotations

from scheduler.redis.coalescing.protocol import (
    Ask,
    Begun,
    BegunRun,
    Execution,
    Joined,
    Protocol,
    Repaired,
    Settled,
    Verdict,
)

__all__ = ["Ask", "Begun", "BegunRun", "Execution", "Joined", "Protocol", "Repaired", "Settled", "Verdict"]
