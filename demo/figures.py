"""From a recording to the figures of demo-report.json. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from demo.measures import overlaps, peak, quantiles

if TYPE_CHECKING:
    from demo.record import Recording, WorkerRow

WARM: Final = ("warm", "hot_idle")
WAITED: Final = ("waited",)


def pool_figures(run: Recording) -> dict[str, Any]:
    """The `pool` part of demo-report.json. Milliseconds and seconds by the names' ends; None: there was nothing to measure."""
    claims, workers = run.history.claims, run.history.workers
    slots = _burst_slots(run)
    burst_to_slots_s = _burst_to_slots_s(run)
    refusals = run.seen.refusals
    library = [hold for hold in run.seen.holds if hold.door == "library"]
    by_origin = {origin: [hold.claim_ms for hold in library if hold.origin == origin] for origin in (*WARM, *WAITED)}
    return {
        "tenants": run.tenants,
        "floor": run.floor,
        "demand_peak": peak((claim.asked_at, claim.ended_at) for claim in claims),
        "waiting_peak": peak((claim.asked_at, claim.claimed_at) for claim in claims if claim.origin == "waited"),
        "slots_created": len(slots),
        "burst_to_slots_s": None if burst_to_slots_s is None else round(burst_to_slots_s, 3),
        "burst_served_s": round(_burst_end(run) - run.burst_at, 3),
        "reconciles_in_burst": sum(run.burst_at <= tick.at <= _burst_end(run) for tick in run.history.reconciles),
        "peak_workers": peak((worker.created_at, worker.ended_at) for worker in workers),
        "workers_created": len(workers),
        "claims": len(claims),
        "claims_by_origin": {origin: sum(claim.origin == origin for claim in claims) for origin in (*WARM, *WAITED)},
        "claims_by_celery": sum(hold.door == "celery" for hold in run.seen.holds),
        "double_claims": run.history.double_claims
        + overlaps((hold.endpoint, (hold.began_s, hold.ended_s)) for hold in run.seen.holds),
        "cross_tenant": run.history.cross_tenant + _shared_workers(run) + refusals.foreign_served,
        "foreign_tokens_refused": refusals.foreign_tried - refusals.foreign_served,
        "ended_tokens_refused": refusals.ended_tried - refusals.ended_served,
        "ended_tokens_served": refusals.ended_served,
        "miscounted_tenants": run.history.miscounted_tenants,
        "claim_ms": {
            "warm": quantiles(by_origin["warm"] + by_origin["hot_idle"]),
            "waited": quantiles(by_origin["waited"]),
            "floor_only": quantiles(by_origin["warm"]),
            "hot_idle_only": quantiles(by_origin["hot_idle"]),
            "by_celery": quantiles([hold.claim_ms for hold in run.seen.holds if hold.door == "celery"]),
            "statement": quantiles(run.seen.statement_ms),
        },
        "ready_to_claimed_ms": quantiles(_ready_to_claimed_ms(run)),
        "hot_idle_reuse": sum(claim.origin == "hot_idle" for claim in claims),
        "queries": len(run.seen.query_ms),
        "query_ms": quantiles(run.seen.query_ms),
        "wrong_results": len(run.seen.wrong_results),
        "abandoned_asks": run.seen.abandoned_asks,
        "reaped": sum(worker.cause == "idle_timeout" for worker in workers),
        "hot_idle_over": sum(worker.cause == "hot_idle_over" for worker in workers),
        "lease_expired": sum(worker.cause == "lease_expired" for worker in workers),
        "back_at_floor": run.back_at_floor,
        "failures": len(run.seen.failures),
        "left_processes": run.left_processes,
    }


def _burst_end(run: Recording) -> float:
    """When the last tenant of the burst held its first worker; the burst's own time when none ever did."""
    first: dict[str, float] = {}
    for claim in run.history.claims:
        if claim.activated_at is not None:
            first[claim.tenant] = min(first.get(claim.tenant, claim.activated_at), claim.activated_at)
    return max(first.values(), default=run.burst_at)


def _burst_slots(run: Recording) -> list[WorkerRow]:
    """Workers that lived when the burst began, and those created until it was served."""
    end = _burst_end(run)
    return [
        worker
        for worker in run.history.workers
        if worker.created_at <= end and (worker.ended_at is None or worker.ended_at > run.burst_at)
    ]


def _burst_to_slots_s(run: Recording) -> float | None:
    """Until the commit of the slot that completes floor and demand; None: it was never completed."""
    slots = sum(worker.created_at < run.burst_at for worker in _burst_slots(run))
    for tick in run.history.reconciles:
        if tick.at < run.burst_at:
            continue
        slots += tick.created
        if slots >= run.floor + run.tenants:
            return tick.at - run.burst_at
    return None


def _ready_to_claimed_ms(run: Recording) -> list[float]:
    ready = {worker.id: worker.ready_at for worker in run.history.workers}
    return [
        # One that asked after its worker was ready did not wait for it from then on.
        (claim.activated_at - max(ready_at, claim.asked_at)) * 1000
        for claim in run.history.claims
        if claim.origin == "waited"
        and claim.activated_at is not None
        and (ready_at := ready.get(claim.worker_id)) is not None
    ]


def _shared_workers(run: Recording) -> int:
    """Workers that more than one tenant held, as the clients saw it."""
    tenants: dict[int, set[str]] = {}
    for hold in run.seen.holds:
        tenants.setdefault(hold.worker_id, set()).add(hold.tenant)
    return sum(len(met) > 1 for met in tenants.values())
