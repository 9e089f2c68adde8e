"""A recording of networks in small: two starts that share a run, two that do not, and a submit answered with a pending one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from demo.network.record import Guest, NetworkRecording, OperationRow, RunRow, Seen, Wake

BEGAN = 2_000.0
DNSMASQ, MESH, PLUG = "step.update_dnsmasq", "step.ensure_mesh", "step.plug_interface"


def entry(step: int, task: str, after_s: float, **more: Any) -> dict[str, Any]:
    times = {"began_at": iso(after_s), "ended_at": iso(after_s + 0.1), "state": "succeeded"}
    return {"step": step, "task": task, "run": f"{task}@{after_s}", **times, **more}


def iso(after_s: float) -> str:
    return datetime.fromtimestamp(BEGAN + after_s, UTC).isoformat()


def ran(step: int, task: str, after_s: float, served: int = 1) -> dict[str, Any]:
    return entry(step, task, after_s, how="ran", served=served)


def folded(step: int, task: str, after_s: float, into: int, where: str) -> dict[str, Any]:
    return entry(step, task, after_s, how="folded", into=into, where=where)


def operation(number: int, target: str, ended_s: float, trail: list[dict[str, Any]], **more: Any) -> OperationRow:
    plan = [one["task"] for one in trail if "step" in one]
    row = {"kind": "interface.plug", "state": "succeeded", "asked": 1, "plan": plan, **more}
    return OperationRow(id=number, target=target, trail=trail, submitted_at=BEGAN, ended_at=BEGAN + ended_s, **row)


def runs_of(operations: list[OperationRow]) -> list[RunRow]:
    return [
        RunRow(one["task"], row.id, one["state"], one["served"], BEGAN, BEGAN + 0.1)
        for row in operations
        for one in row.trail
        if one["how"] == "ran"
    ]


def sample_networks() -> NetworkRecording:
    operations = [
        operation(1, "shared-1/shared-1-1", 0.3, [ran(0, DNSMASQ, 0.0, 2), ran(1, MESH, 0.1, 2), ran(2, PLUG, 0.2)]),
        operation(
            2,
            "shared-1/shared-1-2",
            0.4,
            [
                folded(0, DNSMASQ, 0.0, 1, "on_submit"),
                folded(1, MESH, 0.1, 1, "at_worker"),
                ran(2, PLUG, 0.3),
            ],
        ),
        operation(3, "apart-1/apart-1-1", 0.3, [ran(0, DNSMASQ, 0.0), ran(1, PLUG, 0.2)]),
        operation(4, "apart-1/apart-1-2", 1.0, [ran(0, DNSMASQ, 0.5), ran(1, PLUG, 0.9)]),
        operation(
            5,
            "net-00",
            0.2,
            [{"how": "folded", "where": "in_operation", "times": 1}, ran(0, DNSMASQ, 0.1)],
            kind="network.refresh",
            asked=3,
        ),
    ]
    return NetworkRecording(
        driver="linux",
        way="root",
        words="real <networks>",
        networks=1,
        nodes=3,
        compared=3,
        took_s=1.0,
        seen=Seen(
            wakes=[Wake(1, BEGAN + 0.1, BEGAN + 0.302), Wake(2, BEGAN + 0.5, BEGAN + 0.6)],
            guests=[Guest("shared-1-1", "10.2.0.2", "10.2.0.2", 1, 1, 1, 1, 0, 1)],
            starts=[[1, 2]],
            apart=[[3, 4]],
        ),
        operations=operations,
        runs=runs_of(operations),
        differences=[],
    )


def spoil_operation(run: NetworkRecording, **wrong: Any) -> None:
    run.operations[0] = replace(run.operations[0], **wrong)


def spoil_guest(run: NetworkRecording, **wrong: Any) -> None:
    run.seen.guests[0] = replace(run.seen.guests[0], **wrong)
