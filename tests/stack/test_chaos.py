"""Under kill -9 of anything: no double claim, no second tenant, no row without a worker, no worker without a row."""

from __future__ import annotations

from tests.stack import chaos
from tests.support.servers import Servers


def test_claims_hold_beside_reaping_reconciling_and_kill_9_of_anything(servers: Servers) -> None:
    report = chaos.run(servers, **chaos.from_environment(8, 8.0))  # type: ignore[arg-type]
    print(report)  # noqa: T201 - pytest shows it, and its seed, when this fails
    assert report.claims > 0
    assert report.killed_workers > 0
    assert report.violations == {}, f"seed {report.seed}"
