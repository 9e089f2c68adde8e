"""A recording in small, with one of each thing that the figures tell apart."""

from __future__ import annotations

import pytest

from demo.record import (
    ClaimRow,
    History,
    Hold,
    Observations,
    Phase,
    ReconcileRow,
    Recording,
    Refusals,
    Sample,
    WorkerRow,
)
from tests.demo.network_sample import sample_networks

BURST_AT = 1_000.0
QUIET = dict.fromkeys(("spawning", "activating", "active", "hot_idle", "stopping"), 0)


@pytest.fixture
def sample_run() -> Recording:
    """Two tenants against a floor of one: one is served warm, one waits for the second of two new workers' slots."""
    workers = [
        WorkerRow(1, "sim-0000", BURST_AT - 2, BURST_AT - 3, BURST_AT - 2, BURST_AT + 9, "hot_idle_over"),
        WorkerRow(2, "sim-0000", BURST_AT - 2, BURST_AT + 0.1, BURST_AT + 0.5, BURST_AT + 9, "hot_idle_over"),
        WorkerRow(3, "sim-0001", BURST_AT + 0.6, BURST_AT + 0.1, BURST_AT + 0.6, None, None),
        WorkerRow(4, "sim-0001", BURST_AT + 0.6, BURST_AT + 5.0, BURST_AT + 6.0, BURST_AT + 12, "idle_timeout"),
    ]
    claims = [
        ClaimRow(1, 1, "a", "sim-0000", "warm", BURST_AT, BURST_AT + 0.01, BURST_AT + 0.02, BURST_AT + 4, "released"),
        ClaimRow(2, 1, "b", "sim-0000", "waited", BURST_AT, BURST_AT + 0.5, BURST_AT + 0.52, BURST_AT + 4, "released"),
        ClaimRow(
            1, 2, "a", "sim-0000", "hot_idle", BURST_AT + 5, BURST_AT + 5, BURST_AT + 5.01, BURST_AT + 6, "released"
        ),
    ]
    seen = Observations(
        holds=[
            Hold("a", 1, 1, "http://127.0.0.1:24001", "warm", "library", 5.0, 10.02, 14.0),
            Hold("b", 2, 1, "http://127.0.0.1:24002", "waited", "library", 520.0, 10.52, 14.0),
            Hold("a", 1, 2, "http://127.0.0.1:24001", "hot_idle", "celery", 40.0, 15.0, 16.0),
        ],
        query_ms=[3.0, 4.0],
        statement_ms=[1.0, 2.0],
        refusals=Refusals(foreign_tried=2, ended_tried=3),
    )
    return Recording(
        tenants=2,
        floor=1,
        began="2026-01-02T03:04:05+00:00",
        wall_s=30.0,
        burst_s=10.0,
        burst_at=BURST_AT,
        back_at_floor=True,
        left_processes=0,
        phases=[Phase("floor fills", 2.0), Phase("burst", 10.0), Phase("load falls", 16.0)],
        samples=[Sample(at_s, QUIET | {"idle": 1}, 0) for at_s in (9.0, 11.0, 20.0)],
        seen=seen,
        history=History(
            claims, workers, [ReconcileRow(BURST_AT + 0.1, 2, 2, 1), ReconcileRow(BURST_AT + 5, 1, 1, 1)], 0, 0, 0
        ),
        machine={"cpu": "<&>", "cores": 2},
        network=sample_networks(),
    )
