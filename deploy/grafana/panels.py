"""What the dashboards show: each panel's title, queries and unit. `make dashboards` writes them as Grafana's JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Panel:
    """One panel: queries by their legend. `kind` is Grafana's: timeseries, stat or table."""

    title: str
    says: str  # what to look for
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    stacked: bool = False
    width: int = 12  # of 24


@dataclass(frozen=True)
class Dashboard:
    """One dashboard, with the labels that can be chosen by a variable, and the metric that knows their values."""

    uid: str
    title: str
    panels: tuple[Panel, ...]
    variables: dict[str, str]


def _rate(metric: str, by: str, labels: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def _quantile(share: float, metric: str, by: str, labels: str = "") -> str:
    return f"histogram_quantile({share}, {_rate(f'{metric}_bucket', f'le, {by}', labels)})"


_PROFILE: Final = 'profile=~"$profile"'
_QUEUE: Final = 'queue=~"$queue"'
_STEP: Final = 'step=~"$step"'

POOL: Final = Dashboard(
    "stoker-pool",
    "Stoker: pool",
    (
        Panel(
            "Workers by state",
            "Idle workers are claimed in milliseconds; spawning ones are on their way.",
            {"{{state}}": f"sum by (state) (stoker_workers{{{_PROFILE}}})"},
            stacked=True,
        ),
        Panel(
            "Idle workers, floor and demand",
            "Idle below the floor for long: spawns fail or do not keep up. Demand: claims that wait.",
            {
                "idle {{profile}}": f'sum by (profile) (stoker_workers{{state="idle",{_PROFILE}}})',
                "floor {{profile}}": f"sum by (profile) (stoker_floor{{{_PROFILE}}})",
                "demand {{profile}}": f"sum by (profile) (stoker_demand_tickets{{{_PROFILE}}})",
            },
        ),
        Panel(
            "Claims by outcome",
            "A miss names its reason; for no_warm alone more workers help.",
            {"{{outcome}}: {{reason}}": f"{_rate('stoker_claims_total', 'outcome, reason', _PROFILE)} > 0"},
            unit="ops",
            stacked=True,
        ),
        Panel(
            "Claim latency",
            "From asking to being answered. Waited: in turn, for a worker to become ready.",
            {
                "p50 {{outcome}}": _quantile(0.5, "stoker_claim_seconds", "outcome"),
                "p99 {{outcome}}": _quantile(0.99, "stoker_claim_seconds", "outcome"),
            },
            unit="s",
        ),
        Panel(
            "Spawn durations",
            "From a worker's slot to its first answer.",
            {
                "p50": _quantile(0.5, "stoker_spawn_seconds", "outcome", 'outcome="ready"'),
                "p99": _quantile(0.99, "stoker_spawn_seconds", "outcome", 'outcome="ready"'),
            },
            unit="s",
        ),
        Panel(
            "Spawns that ended",
            "Ready, or failed: the next panel says why.",
            {"{{outcome}}": _rate("stoker_spawn_seconds_count", "outcome")},
            unit="ops",
        ),
        Panel(
            "Spawns that came to nothing",
            "Those of one profile wait longer each time; the others' do not.",
            {"{{profile}}: {{outcome}}": f"{_rate('stoker_spawn_failures_total', 'profile, outcome', _PROFILE)} > 0"},
            unit="ops",
            stacked=True,
        ),
        Panel(
            "Requests to the API server",
            "Of a cluster's launcher. 429: it is overloaded; none: it did not answer in time.",
            {"{{verb}} {{code}}": _rate("stoker_kubernetes_requests_total", "verb, code")},
            unit="ops",
            stacked=True,
        ),
        Panel(
            "Requests that wait for their own limits",
            "How many at a time, in the mean. Above 0 for long: raise launcher.kubernetes.qps.",
            {"{{verb}}": _rate("stoker_kubernetes_limit_wait_seconds_total", "verb")},
        ),
    ),
    {"profile": "stoker_floor"},
)

QUEUES: Final = Dashboard(
    "stoker-queues",
    "Stoker: queues",
    (
        Panel(
            "Messages that wait",
            "A backlog is no fault by itself: see whether its first is past its bound.",
            {"{{queue}}": f"sum by (queue) (stoker_queue_depth{{{_QUEUE}}})"},
            stacked=True,
        ),
        Panel(
            "The oldest, as a share of its bound",
            "Above 1 it is overdue, and served by the queue's reserve before better work.",
            {
                "{{queue}}": f"max by (queue) (stoker_queue_oldest_seconds{{{_QUEUE}}})"
                f" / max by (queue) (stoker_queue_bound_seconds{{{_QUEUE}}})"
            },
            unit="percentunit",
        ),
        Panel(
            "Waits until a task starts",
            "From publication, or when it was due.",
            {
                "p50 {{queue}}": _quantile(0.5, "stoker_queue_wait_seconds", "queue", _QUEUE),
                "p99 {{queue}}": _quantile(0.99, "stoker_queue_wait_seconds", "queue", _QUEUE),
            },
            unit="s",
        ),
        Panel(
            "Taken past their bound",
            "Any for long: more comes than is served.",
            {"{{queue}}": _rate("stoker_staleness_violations_total", "queue", _QUEUE)},
            unit="ops",
        ),
        Panel("Taken", "By queue.", {"{{queue}}": _rate("stoker_queue_taken_total", "queue", _QUEUE)}, unit="ops"),
        Panel(
            "Taken by the reserve",
            "Before better work, because they were overdue.",
            {"{{queue}}": _rate("stoker_queue_reserved_total", "queue", _QUEUE)},
            unit="ops",
        ),
    ),
    {"queue": "stoker_queue_bound_seconds"},
)

OPERATIONS: Final = Dashboard(
    "stoker-operations",
    "Stoker: operations",
    (
        Panel(
            "Steps: asked for, folded, run",
            "What was asked for and not run was served by another's run.",
            {
                "asked for": f"sum(rate(stoker_step_requests_total{{{_STEP}}}[$__rate_interval]))",
                "folded": f"sum(rate(stoker_folds_total{{{_STEP}}}[$__rate_interval]))",
                "run": f"sum(rate(stoker_step_runs_total{{{_STEP}}}[$__rate_interval]))",
            },
            unit="ops",
        ),
        Panel(
            "Folds by step and place",
            "None at all, where requests of one target come together: see the next panel.",
            {"{{step}} {{where}}": f"{_rate('stoker_folds_total', 'step, where', _STEP)} > 0"},
            unit="ops",
            stacked=True,
        ),
        Panel(
            "Equal runs that did not share",
            "Behind a barrier they may not. Else: coalescing is off, or matches nothing.",
            {"{{step}}": _rate("stoker_folds_missed_total", "step", _STEP)},
            unit="ops",
        ),
        Panel(
            "Runs by how they ended",
            "Retried: a Temporary error. Lost: the worker died.",
            {"{{state}}": _rate("stoker_step_runs_total", "state", _STEP)},
            unit="ops",
        ),
        Panel(
            "Operations that have not ended",
            "Waiting is for others that they need; queued is for a worker or a lane.",
            {"{{state}}": "sum by (state) (stoker_operations)"},
        ),
        Panel(
            "Operations: submitted and ended",
            "Of those that have ended.",
            {
                "submitted": "sum(rate(stoker_operations_submitted_total[$__rate_interval]))",
                "{{state}}": _rate("stoker_operations_ended_total", "state"),
            },
            unit="ops",
        ),
        Panel(
            "Waits for a lane",
            "Of steps that had to wait for another run on their network and node.",
            {"p99 {{queue}}": _quantile(0.99, "stoker_task_lane_wait_seconds", "queue")},
            unit="s",
        ),
        Panel(
            "Requests that a start served beside its own",
            "Of every task that coalesces, ticks too, as its workers tell.",
            {"{{task}}": f"{_rate('stoker_task_folds_total', 'task')} > 0"},
            unit="ops",
        ),
    ),
    {"step": "stoker_step_requests_total"},
)

HEALTH: Final = Dashboard(
    "stoker-health",
    "Stoker: beat and health",
    (
        Panel("Engines", "1: it answers.", {"{{engine}}": "min by (engine) (stoker_up)"}, kind="stat", width=6),
        Panel(
            "Exporter and Flower",
            "1: Prometheus has an answer.",
            {"{{job}}": "min by (job) (up)"},
            kind="stat",
            width=6,
        ),
        Panel(
            "Beat",
            "1: one sends what is due. And whether the exporter hears of starts.",
            {"active beat": "max(stoker_beat_active)", "events heard": "max(stoker_events_listening)"},
            kind="stat",
            width=6,
        ),
        Panel("Alerts", "Pending and firing.", {"": "ALERTS"}, kind="table", width=6),
        Panel(
            "Beat was last heard of",
            "Renewed each second; after five without, another takes over.",
            {"lease age": "max(stoker_beat_lease_age_seconds)"},
            unit="s",
        ),
        Panel(
            "Entries of the schedule that are due",
            "For how long. More than a second or two: no beat sends, or it cannot.",
            {"{{entry}}": "max by (entry) (stoker_schedule_overdue_seconds)"},
            unit="s",
        ),
        Panel(
            "Sent by the schedule",
            "By entry.",
            {"{{entry}}": _rate("stoker_schedule_sent_total", "entry")},
            unit="ops",
        ),
        Panel(
            "Missed by the schedule",
            "Times for which nothing was sent, because no beat ran.",
            {"{{entry}}": "sum by (entry) (increase(stoker_schedule_missed_total[$__rate_interval]))"},
        ),
        Panel(
            "Celery workers",
            "That Flower hears of.",
            {"{{worker}}": "max by (worker) (flower_worker_online)"},
        ),
        Panel(
            "Scrapes",
            "How long the exporter needs for its answer.",
            {"{{job}}": "max by (job) (scrape_duration_seconds)"},
            unit="s",
        ),
    ),
    {},
)

ALL: Final = (POOL, QUEUES, OPERATIONS, HEALTH)
