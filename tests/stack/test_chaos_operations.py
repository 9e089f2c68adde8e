"""Under kill -9 of Celery workers and flushes of Redis: every operation ends, and no update is lost."""

from __future__ import annotations

import pytest

from tests.stack import chaos_operations
from tests.support.servers import Servers


@pytest.mark.timeout(400)
def test_no_update_is_lost_beside_kill_9_and_flushes_and_no_runs_of_a_lane_overlap(servers: Servers) -> None:
    report = chaos_operations.run(servers, **chaos_operations.from_environment(4, 300, 6, 6.0))
    print(report)  # noqa: T201 - pytest shows it, and its seed, when this fails
    assert report.runs < report.steps, "nothing was folded"
    assert sum(report.killed.values()) > 0
    assert report.violations == {}, f"seed {report.seed}"
