"""A worker without an engine: the same contract, and SQL comes back as it went in. For tests and benches.

Run as ``python -m demo.echo_server``; see demo.worker for its environment.
"""

from __future__ import annotations

from demo.worker import run

TYPE_CHECKING = False  # typing itself would cost 5 ms
if TYPE_CHECKING:
    from typing import Any


def echo(sql: str) -> dict[str, Any]:
    """One row: what was asked."""
    return {"columns": ["sql"], "rows": [[sql]], "truncated": False}


if __name__ == "__main__":
    run(lambda: echo)
