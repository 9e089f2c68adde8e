"""All tables: whoever compares, empties or migrates the whole database asks here."""

from __future__ import annotations

from scheduler.store import tables, tables_operations, tables_schedule

__all__ = ["metadata", "tables", "tables_operations", "tables_schedule"]

metadata = tables.metadata
