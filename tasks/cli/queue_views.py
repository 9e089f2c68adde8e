"""What `stoker queues` shows: each queue's depth, its oldest wait against its bound, and what was taken from it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from config.names import class_of
from config.quantity import duration_s
from scheduler.errors import Refused
from scheduler.store.queues import Policy
from tasks.cli.output import duration, plain_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from config.settings import Settings
    from scheduler.redis.queues.counts import Sample

_SHARE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?|\.\d{1,9}) ?(%?)", re.ASCII)
_COLUMNS: Final = ("queue", "waiting", "oldest", "bound", "reserve", "used", "per s", "late", "served by")


@dataclass(frozen=True)
class Look:
    """Two samples of the queues, and who serves them."""

    before: Sample
    after: Sample
    policies: Sequence[Policy]
    workers: Mapping[str, Sequence[str]] = field(default_factory=dict)  # Celery worker -> its queues

    def rows(self, settings: Settings, *, totals: bool) -> list[dict[str, Any]]:
        """A row a class, those of its nodes' queues below it. What the reserve gave: of all time, or since the look before."""
        policies = _policies(settings, self.policies)
        queues = [
            queue for name in policies for queue in (name, *(n for n in settings.node_queues if class_of(n) == name))
        ]
        taken = sum(self._since(queue, "taken", totals=totals) for queue in queues)

        def used(queue: str) -> float | None:
            # A class's reserve is that of all its queues.
            own = [q for q in queues if q == queue or class_of(q) == queue]
            return sum(self._since(q, "reserved", totals=totals) for q in own) / taken if taken else None

        return [self._row(queue, policies[class_of(queue)]) | {"reserve_used": used(queue)} for queue in queues]

    def _row(self, queue: str, policy: Policy) -> dict[str, Any]:
        seen = self.after.queues[queue]
        elapsed_s = self.after.at_s - self.before.at_s
        return {
            "queue": queue,
            "class": policy.name,
            "rank": policy.rank,
            "waiting": seen.depth,
            "oldest_s": seen.oldest_s,
            "bound_s": policy.bound_s,
            "reserve": policy.reserve,
            "changed": {"bound_s": policy.override_bound_s, "reserve": policy.override_reserve, "by": policy.changed_by}
            if policy.is_overridden
            else None,
            "taken_per_s": self._since(queue, "taken", totals=False) / elapsed_s if elapsed_s > 0 else None,
            "taken": seen.taken,
            "late": seen.late,
            "workers": sorted(worker for worker, served in self.workers.items() if queue in served),
        }

    def _since(self, queue: str, name: str, *, totals: bool) -> int:
        now: int = getattr(self.after.queues[queue], name)
        # A flush in between makes it less than it was.
        return now if totals else max(0, now - getattr(self.before.queues[queue], name))


def table(rows: Sequence[Mapping[str, Any]], note: str = "") -> RenderableType:
    """The rows for people."""
    shown = plain_table("queues, the first served first")
    for column in _COLUMNS:
        shown.add_column(
            column, justify="left" if column in {"queue", "served by"} else "right", no_wrap=column != "served by"
        )
    for row in rows:
        shown.add_row(*_cells(row))
    changed = [row for row in rows if row["changed"] and row["queue"] == row["class"]]
    notes = [f"* {row['queue']} was changed by {row['changed']['by']}: stoker queues history" for row in changed]
    return Group(shown, *(Text(line, style="dim") for line in (*notes, note) if line))


def words(policy: Mapping[str, Any] | None) -> str:
    """A bound and a reserve as people read them."""
    return f"{duration(policy['bound_s'])}, {percent(policy['reserve'])}" if policy else "-"


def percent(share: float | None) -> str:
    """A share as people read it."""
    return "-" if share is None else f"{share * 100:.3g} %"


def seconds(text: str) -> float:
    """A bound as operators write it: 500ms, 10s, 2min.

    Raises:
        Refused: it is none.
    """
    found = duration_s(text)
    if found is None:
        raise Refused(
            "bound", expected="a number and its unit", got=repr(text), remedy="write it like 500ms, 10s or 2min"
        )
    return found


def share(text: str) -> float:
    """A reserve as operators write it: 0.2, 20%.

    Raises:
        Refused: it is none.
    """
    found = _SHARE.fullmatch(text.strip())
    if found is None:
        raise Refused("reserve", expected="a share of all dequeues", got=repr(text), remedy="write it like 0.2 or 20%")
    return round(float(found[1]) / (100 if found[2] else 1), 9)


def _cells(row: Mapping[str, Any]) -> list[Text]:
    is_class = row["queue"] == row["class"]
    oldest_s, changed = row["oldest_s"], row["changed"] or {}
    bound = duration(row["bound_s"]) + ("*" if changed.get("bound_s") is not None else "")
    reserve = percent(row["reserve"] or None) + ("*" if changed.get("reserve") is not None else "")
    overdue = oldest_s is not None and oldest_s > row["bound_s"]
    rate = row["taken_per_s"]
    return [
        Text(row["queue"]) if is_class else Text(f"  {row['queue'].removeprefix(row['class'])}", style="dim"),
        Text(str(row["waiting"]), style="yellow" if row["waiting"] else "dim"),
        Text(duration(oldest_s), style="bold red" if overdue else "dim" if oldest_s is None else ""),
        Text(bound if is_class else ""),
        Text(reserve if is_class else ""),
        Text(percent(row["reserve_used"])),
        Text("-" if rate is None else f"{rate:.1f}"),
        Text(str(row["late"]), style="red" if row["late"] else "dim"),
        Text(_together(row["workers"])) if row["workers"] else Text("nobody", style="red"),
    ]


def _together(workers: Sequence[str]) -> str:
    """Workers of one name on several machines as one: spawn x2."""
    names = Counter(worker.partition("@")[0] for worker in workers)
    return ", ".join(name if count == 1 else f"{name} x{count}" for name, count in names.items())


def _policies(settings: Settings, known: Sequence[Policy]) -> dict[str, Policy]:
    """In the order in which they are served. A class that SQL does not have yet is as the settings have it."""
    found = {policy.name: policy for policy in known}
    return {
        name: found.get(name) or Policy(name, own.rank, own.bound_s, own.reserve)
        for name, own in ((name, settings.queues[name]) for name in settings.classes)
    }
