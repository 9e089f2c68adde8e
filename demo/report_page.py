"""The page of demo-report.html: one file without a reference to any other. Pure."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final

from demo.judgement import held
from demo.network.section import network_section
from demo.record import STATES
from demo.report_charts import ORIGIN_NAMES, STATE_NAMES, Curve, landings, latency, pool_over_time
from demo.report_parts import figure, key, tiles
from demo.report_style import STYLE
from demo.report_tables import judgement_table, times_table
from demo.words import count, duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from demo.judgement import Check
    from demo.record import Recording

_HOW: Final = (
    "Every tenant is a thread of one process with a database connection of its own. Before the burst each connection runs the"
    " claim's statement for a tenant that does not exist, which changes nothing, so that no claim pays for imports, connections"
    " or plans. A claim's time is the whole call: its statement, the wait if there is one, the HTTP call that binds the worker"
    " to its tenant, and the statement that records it. Thirty threads share one interpreter and, with the engines, Celery, beat,"
    " Flower and all workers, the cores of this machine: the slowest claims are those that waited for a core. Slots, readiness,"
    " overlaps and landings are read from the database's history; each client's own clock is the second witness for overlaps."
    " Steps, folds and waits of operations are read from the history too; engines and clients share this machine's clock, so a"
    " waiter's time from the end of its operation to its return is one clock's. The starts that share nothing are the same six"
    " on another network like the first, submitted by a context whose setting operations.coalesce is off."
)


def page(run: Recording, figures: dict[str, Any], networks: dict[str, Any], checks: list[Check]) -> str:
    """The whole document."""
    nothing_violated = held(checks)
    parts = [
        _head(run, figures, nothing_violated=nothing_violated),
        _tiles(figures),
        _pool(run, figures),
        f'<div class="pair">{_latency(run, figures)}{_landings(run, figures)}</div>',
        network_section(run.network, networks),
        judgement_table(checks),
        times_table(figures),
        f'<h2>How it was measured</h2><p class="facts">{_HOW}</p>',
        _machine(run),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Stoker: the cold ramp</title>'
        f"<style>{STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )


def _head(run: Recording, figures: dict[str, Any], *, nothing_violated: bool) -> str:
    verdict = "nothing was violated" if nothing_violated else "something was violated"
    served = (
        f"all served {figures['burst_served_s']:.1f}\N{NO-BREAK SPACE}s later"
        if nothing_violated
        else "see what broke below"
    )
    return (
        f'<div class="verdict{"" if nothing_violated else " violated"}">{verdict}</div>'
        f"<h1>{run.tenants} tenants asked a pool of {run.floor} warm workers at once, {served}</h1>"
        f'<p class="soft">Then they worked, left and came back: {figures["claims"]} claims and {figures["queries"]:,} SQL queries'
        f" on real DuckDB workers, up to {figures['peak_workers']} of them; and when the load had gone, the pool returned to its"
        f" floor. {escape(run.began.replace('T', ' ').replace('+00:00', ' UTC'))}, {run.wall_s:.0f} s in all.</p>"
    )


def _tiles(figures: dict[str, Any]) -> str:
    slots_s = figures["burst_to_slots_s"]
    said = (
        (
            "never" if slots_s is None else f"{slots_s:.2f} s",
            f"from the burst to all {figures['slots_created']} slots, in {count(figures['reconciles_in_burst'], 'reconcile')}",
        ),
        (duration(figures["claim_ms"]["warm"]["p50"]), "to claim a worker when one is warm (p50)"),
        (duration(figures["claim_ms"]["waited"]["p50"]), "when none is, and a new one must start (p50)"),
        (
            duration(figures["ready_to_claimed_ms"]["p50"]),
            "of that from the worker being ready to its tenant holding it (p50)",
        ),
        (
            f"{figures['double_claims']} · {figures['cross_tenant']} · {figures['left_processes']}",
            "double claims · cross-tenant uses · processes left behind",
        ),
    )
    return tiles(said)


def _pool(run: Recording, figures: dict[str, Any]) -> str:
    states = [(STATE_NAMES[state], f"var(--{state})", "") for state in STATES]
    caption = (
        f"The floor's {run.floor} workers go at once; every miss is demand, and one reconcile closes the whole deficit it sees."
        f" {figures['abandoned_asks']} later asks did not wait: their tickets live two ticks, nobody comes back for the workers,"
        " and the reaper takes that surplus on the right."
    )
    return figure(
        "The pool by state, seconds since the burst",
        caption,
        key([*states, ("claims that wait", "var(--bad)", "dashed"), ("floor", "var(--ink)", "dashed")]),
        pool_over_time(run, figures["burst_to_slots_s"]),
    )


def _latency(run: Recording, figures: dict[str, Any]) -> str:
    holds = [hold for hold in run.seen.holds if hold.door == "library"]
    curves = [
        Curve("the claim's SQL statement alone", "statement", run.seen.statement_ms),
        *(
            Curve(ORIGIN_NAMES[origin], origin, [hold.claim_ms for hold in holds if hold.origin == origin])
            for origin in ("hot_idle", "warm", "waited")
        ),
    ]
    styles = [
        (curve.name, f"var(--{curve.class_})", "dashed" if curve.class_ == "statement" else "") for curve in curves
    ]
    caption = (
        "The share of claims served within a time; dots are medians."
        f" {figures['claims_by_celery']} more claims went by Celery task."
    )
    return figure("How long a claim takes", caption, key(styles), latency(curves))


def _landings(run: Recording, figures: dict[str, Any]) -> str:
    styles = [(name, f"var(--{origin})", "") for origin, name in ORIGIN_NAMES.items()]
    caption = (
        "Claims on idle workers go to the node seen longest ago, whose caches are warmest; the reaper takes from the newest"
        f" ({figures['reaped']} workers). Nodes are simulated, five workers each."
    )
    return figure("Where claims landed, by node age", caption, key(styles), landings(run))


def _machine(run: Recording) -> str:
    facts: Mapping[str, str | int | float] = run.machine
    said = ", ".join(f"{escape(name.replace('_', ' '))} {escape(str(value))}" for name, value in facts.items())
    return f'<h2>Measured on</h2><p class="facts">{said}</p>'
