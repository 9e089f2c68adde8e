"""The two tables of the page: the figures beside their bars, and the times. Pure."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final

from demo.words import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from demo.judgement import Check

_CLAIMS: Final = {
    "warm": (
        "claim, a worker idle",
        "A worker of the floor, or the tenant's own again within its hot idle; the whole call.",
    ),
    "floor_only": (
        "claim, from the floor",
        "Of those, first visits and late returns: they come in bursts, and thirty calls share one interpreter.",
    ),
    "hot_idle_only": (
        "claim, its own again",
        "Of those, returns within the hot idle: the same worker, caches and all.",
    ),
    "waited": (
        "claim, none idle",
        "The wait is for a new process to start DuckDB; thirty of them start at once on this machine's cores.",
    ),
    "by_celery": ("claim by Celery task", "pool.claim by name through the broker, with its result read back."),
    "statement": (
        "claim, its SQL alone",
        "The one statement that picks a worker, checks the tenant's cap and takes it.",
    ),
}
_READY: Final = (
    "ready to claimed",
    "From a worker being ready to its waiting tenant holding it, by the database's clock.",
)
_QUERY: Final = ("query", "Aggregates and joins over 336,776 flights, by HTTP, one thread a worker.")


def judgement_table(checks: Sequence[Check]) -> str:
    """A row a check, with what it means."""
    rows = (
        f"<tr><td>{escape(check.name)}</td><td class=number>{escape(check.got)}</td>"
        f"<td class=bar-is>{escape(check.bar)}</td><td>{_mark(check)}</td><td class=means>{escape(check.means)}</td></tr>"
        for check in checks
    )
    return _table("What must hold, and what is aimed at", ("", "got", "bar", "", "what it means"), rows)


def times_table(figures: dict[str, Any]) -> str:
    """A row a kind of time, with how often it was measured."""
    times = [(*_CLAIMS[kind], figures["claim_ms"][kind]) for kind in _CLAIMS]
    times += [(*_READY, figures["ready_to_claimed_ms"]), (*_QUERY, figures["query_ms"])]
    rows = (
        f"<tr><td>{escape(name)}</td><td class=number>{duration(measured['p50'])}</td>"
        f"<td class=number>{duration(measured['p99'])}</td><td class=number>{measured['n']:,}</td>"
        f"<td class=means>{escape(means)}</td></tr>"
        for name, means, measured in times
    )
    return _table("Times", ("", "p50", "p99", "measured", "what it is"), rows)


def _mark(check: Check) -> str:
    if check.ok:
        return f'<span class="held">{"held" if check.must else "met"}</span>'
    return '<span class="violated-mark">violated</span>' if check.must else '<span class="missed">missed</span>'


def _table(heading: str, columns: Iterable[str], rows: Iterable[str]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(rows)
    return (
        f'<h2>{escape(heading)}</h2><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
