"""Metrics for Prometheus: one process that hears what all workers tell, and looks at the queues when it is asked."""

from __future__ import annotations

from tasks.exporter.exporter import Exporter

__all__ = ["Exporter"]
