"""From a recording to the `network` part of demo-report.json, by the recorded history alone. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from config.names import UPDATE_DNSMASQ_STEP
from demo.measures import quantiles

if TYPE_CHECKING:
    from collections.abc import Collection

    from demo.network.record import NetworkRecording, OperationRow

AT_SUBMIT: Final = "on_submit"
WITHIN: Final = "in_operation"
AT_WORKER: Final = "at_worker"
FOLDS: Final = (AT_SUBMIT, WITHIN, AT_WORKER)
_PASSING: Final = "retried"  # a run that ended with an error and is to run again settles no step


def network_figures(run: NetworkRecording) -> dict[str, Any]:
    """The `network` part. What ran apart for the comparison stands in `incident` only."""
    apart = run.kept_apart
    counted = [one for one in run.operations if one.id not in apart]
    guests = run.seen.guests
    return {
        "driver": run.driver,
        "way": run.way,
        "words": run.words,
        "operations": sum(one.asked for one in counted),
        "operations_returned_as_they_are": sum(one.asked - 1 for one in counted),
        "not_succeeded": sum(one.state != "succeeded" for one in run.operations),
        "steps_submitted": sum(map(submitted_steps, counted)),
        "steps_run": sum(one.operation_id not in apart for one in run.runs),
        "folds": {where: sum(folds(one)[where] for one in counted) for where in FOLDS},
        "by_step": by_step(run),
        "lost_updates": len(run.differences),
        "compared": run.compared,
        "wait_ms": quantiles(waits_ms(run)),
        "wake_ms": quantiles(wakes_ms(run)),
        "leases_ok": sum(guest.leased == guest.wanted for guest in guests),
        "leases": len(guests),
        "names_ok": sum(guest.resolved for guest in guests),
        "names": sum(guest.names for guest in guests),
        "pings_ok": sum(guest.pings_ok for guest in guests),
        "pings": sum(guest.pings for guest in guests),
        "strangers_reached": sum(guest.strangers_reached for guest in guests),
        "strangers": sum(guest.strangers for guest in guests),
        "incident": _incident(run),
        "took_s": round(run.took_s, 1),
    }


def waits_ms(run: NetworkRecording) -> list[float]:
    """How long each operation took, from its submission to its end."""
    counted = [one for one in run.operations if one.id not in run.kept_apart]
    return [(one.ended_at - one.submitted_at) * 1000 for one in counted if one.ended_at is not None]


def wakes_ms(run: NetworkRecording) -> list[float]:
    """How long after the end each waiter had been told of it. Whoever asked after the end was not waiting."""
    ended = {one.id: one.ended_at for one in run.operations if one.id not in run.kept_apart}
    return [
        (wake.returned_at - ended_at) * 1000
        for wake in run.seen.wakes
        if (ended_at := ended.get(wake.operation)) is not None and ended_at > wake.asked_at
    ]


def submitted_steps(one: OperationRow) -> int:
    """The steps that were asked for: of every submit, before any of them folded."""
    return one.asked * (len(one.plan) + _within(one))


def folds(one: OperationRow) -> dict[str, int]:
    """Steps that ran with another's, by where they folded. Of a submit that was answered with a pending one, all did."""
    found = Counter(entry["where"] for entry in one.trail if _settles(entry) and "step" in entry)
    spared = (one.asked - 1) * (len(one.plan) + _within(one))
    return {AT_SUBMIT: found[AT_SUBMIT] + spared, WITHIN: _within(one), AT_WORKER: found[AT_WORKER]}


def by_step(run: NetworkRecording) -> dict[str, dict[str, int]]:
    """For each task of a step: how often it was submitted, and how often it ran."""
    apart = run.kept_apart
    submitted: Counter[str] = Counter()
    for one in run.operations:
        if one.id not in apart:
            submitted.update({task: one.asked * times for task, times in Counter(one.plan).items()})
    ran = Counter(one.task for one in run.runs if one.operation_id not in apart)
    return {task: {"submitted": times, "run": ran[task]} for task, times in submitted.most_common()}


def _within(one: OperationRow) -> int:
    return sum(entry["times"] for entry in one.trail if entry.get("where") == WITHIN)


def _settles(entry: dict[str, Any]) -> bool:
    return bool(entry["how"] == "folded" and entry.get("state") != _PASSING)


def rounds(run: NetworkRecording) -> list[dict[str, Any]]:
    """Each round of six starts beside the six that shared nothing, in their order."""
    found = []
    for ids, alone in zip(run.seen.starts, run.seen.apart, strict=True):
        pair = {"with": _starts(run, ids), "without": _starts(run, alone)}
        slowest, fastest = pair["without"]["slowest_wait_ms"], pair["with"]["slowest_wait_ms"]
        found.append({**pair, "ratio": round(slowest / fastest, 2) if slowest and fastest else None})
    return found


def told_round(run: NetworkRecording) -> int:
    """The round that is told and drawn: that of the median ratio."""
    ratios = [one["ratio"] or 0.0 for one in rounds(run)]
    return ratios.index(sorted(ratios)[len(ratios) // 2])


def _incident(run: NetworkRecording) -> dict[str, Any]:
    played = rounds(run)
    return {
        **played[told_round(run)],
        "rounds": len(played),
        "ratios": [one["ratio"] for one in played],
        "dnsmasq_runs_most": max(one["with"]["dnsmasq_runs"] for one in played),
        "dnsmasq_runs_least": min(one["with"]["dnsmasq_runs"] for one in played),
    }


def _starts(run: NetworkRecording, ids: Collection[int]) -> dict[str, Any]:
    rows = [one for one in run.operations if one.id in ids]
    # By run: what led it may be the creation of their network.
    served = {entry["run"]: entry["task"] for one in rows for entry in one.trail if "run" in entry}
    waits = [(one.ended_at - one.submitted_at) * 1000 for one in rows if one.ended_at is not None]
    return {
        "operations": len(rows),
        "steps_submitted": sum(map(submitted_steps, rows)),
        "steps_run": len(served),
        "dnsmasq_runs": sum(task == UPDATE_DNSMASQ_STEP for task in served.values()),
        "slowest_wait_ms": round(max(waits), 1) if waits else None,
    }
