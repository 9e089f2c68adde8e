"""The queues' scripts: `pick` takes messages by the policy of scheduler/core/queues.py, `put` adds one, `once` at most once."""

from __future__ import annotations

from scheduler.redis.queues.picking import PICK, PUT, WAKE_MS, Picked, Picking

__all__ = ["PICK", "PUT", "WAKE_MS", "Picked", "Picking"]
