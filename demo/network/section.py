"""The network section of demo-report.html. Pure."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from demo.network.charts import STEP_NAMES, longest_ms, starts, submitted_and_run
from demo.network.figures import told_round, waits_ms, wakes_ms
from demo.network.words import ratio
from demo.report_charts import Curve, latency
from demo.report_parts import figure, key, tiles
from demo.words import count, duration

if TYPE_CHECKING:
    from demo.network.record import NetworkRecording


def network_section(run: NetworkRecording, figures: dict[str, Any]) -> str:
    """Heading, tiles, the two timelines beside each other, and the bars."""
    shared, apart = figures["incident"]["with"], figures["incident"]["without"]
    return (
        f"<h2 class=part>{shared['operations']} instances start on one network at once,"
        f" and {count(shared['dnsmasq_runs'], 'run')} of its DHCP server's step will do</h2>"
        f'<p class="soft">{escape(_lead(figures))}</p>'
        f"{tiles(_tiles(figures))}"
        f'<div class="pair">{_timeline(run, "shared", shared)}{_timeline(run, "apart", apart)}</div>'
        f'<div class="pair">{_bars(figures)}{_times(run, figures)}</div>'
    )


def _lead(figures: dict[str, Any]) -> str:
    reach = (
        f"{figures['pings_ok']} of {figures['pings']} pings across the mesh were answered, and"
        f" {figures['strangers_reached']} of {figures['strangers']} into another network."
        if figures["pings"]
        else ""
    )
    return (
        f"Then {figures['operations']:,} operations of every kind in all, in every class of queue, from several clients at"
        f" once. {figures['words'].capitalize()}. {reach}"
    )


def _tiles(figures: dict[str, Any]) -> list[tuple[str, str]]:
    shared, apart = figures["incident"]["with"], figures["incident"]["without"]
    return [
        (
            f"{shared['steps_run']} of {shared['steps_submitted']}",
            f"steps of the six starts ran; {apart['steps_run']} when none shares a run",
        ),
        (
            duration(shared["slowest_wait_ms"]),
            f"until the last of the six was up; {duration(apart['slowest_wait_ms'])}{ratio(figures)}, sharing nothing",
        ),
        (f"{figures['steps_run']:,} of {figures['steps_submitted']:,}", "steps ran, of all operations"),
        (duration(figures["wake_ms"]["p50"]), "from an operation's end to its waiter being told (p50)"),
        (
            str(figures["lost_updates"]),
            f"updates lost, by {figures['compared']} comparisons of a node with what SQL wants",
        ),
    ]


def _timeline(run: NetworkRecording, kind: str, figures: dict[str, Any]) -> str:
    headings = {"shared": "The six starts", "apart": "The same six, sharing nothing"}
    captions = {
        "shared": f"Filled: it ran the step, {figures['steps_run']} times; hollow: another ran it for it meanwhile. Who asks"
        " while a run waits shares it; who asks while it runs shares the next.",
        "apart": "One network on one node is changed by one at a time, so all steps that do not fold stand in line:"
        f" {figures['steps_run']} runs.",
    }
    turn = told_round(run)
    ids = {"shared": run.seen.starts[turn], "apart": run.seen.apart[turn]}
    styles = [(name, f"var(--{step})", "") for step, name in STEP_NAMES.items()]
    return figure(headings[kind], captions[kind], key(styles), starts(run, ids[kind], longest_ms(run, *ids.values())))


def _bars(figures: dict[str, Any]) -> str:
    folds = figures["folds"]
    caption = (
        f"{folds['on_submit']:,} folded when they were submitted, {folds['at_worker']:,} when a step before them had ended,"
        f" {folds['in_operation']:,} within their own operation; all of the deployment's operations but the six that share"
        " nothing."
    )
    styles = [("run", "var(--active)", ""), ("submitted", "var(--rule)", "")]
    return figure("Steps submitted, and run", caption, key(styles), submitted_and_run(figures["by_step"]))


def _times(run: NetworkRecording, figures: dict[str, Any]) -> str:
    curves = [
        Curve("an operation, from its submission to its end", "waited", waits_ms(run)),
        Curve("its waiter, from the end to being told", "warm", wakes_ms(run)),
    ]
    styles = [(curve.name, f"var(--{curve.class_})", "") for curve in curves]
    caption = (
        "The share done within a time; dots are medians. Clients submit by the handful and wait for all of it: an operation's"
        f" time is its place in line as well. {figures['wake_ms']['n']} waiters were there before the end."
    )
    return figure("How long operations take", caption, key(styles), latency(curves, "time"))
