"""The figures beside their bars: what must hold, which decides the exit code, and what is aimed at. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

BURST_TO_SLOTS_S_AIM: Final = 1.0
READY_MS_P50_AIM: Final = 10.0
READY_MS_P99_AIM: Final = 50.0


@dataclass(frozen=True, slots=True)
class Check:
    """One figure, its bar, and a sentence on what it means. `must`: missing the bar is a violation, not bad luck."""

    name: str
    got: str
    bar: str
    ok: bool
    must: bool
    means: str


def judge(figures: dict[str, Any]) -> list[Check]:
    """The figures of demo-report.json that have a bar, most telling first."""
    return [*_burst(figures), *_isolation(figures), *_work(figures), *_end(figures), *_hand_over(figures)]


def held(checks: list[Check]) -> bool:
    """Whether nothing was violated."""
    return all(check.ok for check in checks if check.must)


def _burst(figures: dict[str, Any]) -> list[Check]:
    floor, tenants = figures["floor"], figures["tenants"]
    return [
        _must_be(
            "slots of the burst",
            figures["slots_created"],
            floor + tenants,
            f"The floor of {floor} and one worker for each of {tenants} tenants: no more, however often they ask.",
        ),
        _aim(
            "burst to slots",
            figures["burst_to_slots_s"],
            BURST_TO_SLOTS_S_AIM,
            "s",
            "From the first ask to the commit of the last slot needed: a miss sends a reconcile and waits for no tick.",
        ),
    ]


def _isolation(figures: dict[str, Any]) -> list[Check]:
    return [
        _must_be(
            "double claims",
            figures["double_claims"],
            0,
            "Two claims on one worker at once, by the database's history and by the clients' own clocks.",
        ),
        _must_be(
            "cross-tenant use",
            figures["cross_tenant"],
            0,
            "Workers that met two tenants, and foreign tokens that were served;"
            f" {figures['foreign_tokens_refused']} were tried and refused.",
        ),
        _must_be(
            "ended tokens served",
            figures["ended_tokens_served"],
            0,
            "A claim's token is void after its release or expiry;"
            f" {figures['ended_tokens_refused']} were tried and refused.",
        ),
    ]


def _work(figures: dict[str, Any]) -> list[Check]:
    return [
        _must_be(
            "wrong query results",
            figures["wrong_results"],
            0,
            f"Each of {figures['queries']:,} answers was compared with one computed apart from the workers.",
        ),
        _must_be(
            "failures",
            figures["failures"],
            0,
            "Claims that were not served, workers lost in the middle of the work, renewals refused or granted wrongly.",
        ),
        _must_be(
            "miscounted tenants",
            figures["miscounted_tenants"],
            0,
            "Tenants whose count of claims, by which their cap is checked, is not what the workers say.",
        ),
    ]


def _end(figures: dict[str, Any]) -> list[Check]:
    back = figures["back_at_floor"]
    return [
        Check(
            "back at the floor",
            "yes" if back else "no",
            "yes",
            ok=back,
            must=True,
            means=f"When the load had gone: {figures['reaped']} idle workers reaped from the newest nodes,"
            f" {figures['hot_idle_over']} stopped when their tenant's hot idle was over,"
            f" {figures['lease_expired']} whose lease nobody renewed.",
        ),
        _must_be(
            "left processes",
            figures["left_processes"],
            0,
            "Engines, Celery workers, beat, Flower and pool workers that still ran when the demo had stopped.",
        ),
    ]


def _hand_over(figures: dict[str, Any]) -> list[Check]:
    ready = figures["ready_to_claimed_ms"]
    return [
        _aim(
            "ready to claimed, p50",
            ready["p50"],
            READY_MS_P50_AIM,
            "ms",
            "From a worker being ready to its waiting tenant holding it, activation included, on what the other"
            " starting workers leave of the cores.",
        ),
        _aim(
            "ready to claimed, p99",
            ready["p99"],
            READY_MS_P99_AIM,
            "ms",
            "The same for the slowest: the fewer cores, the longer it queues behind thirty starting processes.",
        ),
    ]


def _must_be(name: str, got: int, bar: int, means: str) -> Check:
    return Check(name, str(got), str(bar), ok=got == bar, must=True, means=means)


def _aim(name: str, got: float | None, at_most: float, unit: str, means: str) -> Check:
    said = "none" if got is None else f"{got:.2f} {unit}" if unit == "s" else f"{got:.1f} {unit}"
    return Check(name, said, f"≤ {at_most:g} {unit}", ok=got is not None and got <= at_most, must=False, means=means)
