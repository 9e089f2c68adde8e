"""An operation's time, step by step: where it waited, for what, and who did the work. Computed from its row alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from scheduler.core.operations import ENDED, OperationState, place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FOLDED_WHERE: Final = {"on_submit": "on submit", "at_worker": "at the worker"}
# What a run's state is called while it is looked at; one that succeeded "ran".
_ENDINGS: Final = {"succeeded": "ran", "retried": "retried", "failed": "failed", "lost": "lost", "running": "running"}


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a bar, in seconds since the operation was submitted."""

    kind: str  # waits, queued, parked, folded, ran, running, retried, failed, lost
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class Part:
    """A run of a step, its own or another's that it folded into; or the step's waiting for one."""

    how: str
    kind: str
    began_s: float | None = None
    queued_s: float | None = None  # all the time before it began, parked included
    parked_s: float | None = None
    ran_s: float | None = None
    ended_s: float | None = None
    defers: int = 0  # times that it parked


@dataclass(frozen=True, slots=True)
class Line:
    """One step of the plan; `position` None: what comes before the first."""

    position: int | None
    name: str
    node: str
    spans: tuple[Span, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """All steps of an operation, on one axis."""

    total_s: float
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class _Moment:
    """A run as the operation's trail has it, or as the table of runs does."""

    step: int
    run: int
    state: str
    attempt: int
    lane_wait_s: float
    began_at: datetime
    ended_at: datetime | None
    served: int
    defers: int
    into: int | None = None
    where: str = ""
    error: str = ""


def timeline(row: Mapping[str, Any]) -> Timeline:
    """The timeline of an operation, as `Operations.show_with_runs` has it; its times may be text, as in JSON."""
    origin = _time(row["submitted_at"])
    assert origin is not None
    moments = sorted(_moments(row), key=lambda moment: (moment.step, moment.began_at))
    ends = [_since(origin, moment.ended_at) for moment in moments if moment.ended_at]
    total_s = max([float(row["took_s"]), *ends])
    ready_s = _since(origin, _time(row["queued_at"])) if row["queued_at"] else None
    lines = []
    if row["needs"] or row["after"]:
        # One that failed or was cancelled while it waited was never queued.
        until_s = total_s if ready_s is None else ready_s
        lines.append(_waiting(until_s, is_over=ready_s is not None or row["state"] in ENDED))
    at_s = 0.0 if ready_s is None else ready_s
    for position, step in enumerate(row["plan"]):
        own = [moment for moment in moments if moment.step == position]
        spans: list[Span] = []
        parts: list[Part] = []
        for moment in own:
            began_s = min(max(at_s, _since(origin, moment.began_at)), total_s)
            ended_s = max(began_s, _since(origin, moment.ended_at) if moment.ended_at else total_s)
            parked_s = min(moment.lane_wait_s, began_s - at_s)
            kind = _ENDINGS[moment.state] if moment.into is None or moment.state != "succeeded" else "folded"
            spans += _gone(Span("queued", at_s, began_s - parked_s), Span("parked", began_s - parked_s, began_s))
            spans.append(Span(kind, began_s, ended_s))
            ran_s, over_s = ended_s - began_s, ended_s if moment.ended_at else None
            parts.append(Part(_how(moment), kind, began_s, began_s - at_s, parked_s, ran_s, over_s, moment.defers))
            at_s = ended_s
        if not own or own[-1].state in {"retried", "lost"}:
            rest = _rest(row, position, at_s, total_s, again=bool(own))
            spans += [Span("queued", at_s, total_s)] if rest.kind == "queued" else []
            parts.append(rest)
        name = step["task"].removeprefix("step.")
        lines.append(Line(position, name, step["node"], tuple(spans), tuple(parts)))
    return Timeline(total_s, tuple(lines))


def _waiting(until_s: float, *, is_over: bool) -> Line:
    part = Part("waited" if is_over else "waits", "waits", began_s=None, queued_s=until_s)
    return Line(None, "others", "", (Span("waits", 0.0, until_s),), (part,))


def _rest(row: Mapping[str, Any], position: int, at_s: float, total_s: float, *, again: bool) -> Part:
    """What becomes of a step that nobody runs now."""
    state = OperationState(row["state"])
    if state in ENDED:
        return Part("not reached", "never")
    if state is OperationState.WAITING or position != row["step"]:
        return Part("to come", "never")
    return Part("queued again" if again else "queued", "queued", queued_s=total_s - at_s)


def _how(moment: _Moment) -> str:
    attempt = f", attempt {moment.attempt}" if moment.attempt > 1 or moment.state in {"retried", "lost"} else ""
    # That of a failure is its operation's, too.
    attempt += f": {moment.error}" if moment.error and moment.state in {"retried", "lost"} else ""
    done = _ENDINGS[moment.state]
    if moment.into is not None:
        folded = f"folded into {moment.into} {_FOLDED_WHERE.get(moment.where, moment.where)}".rstrip()
        return folded + ("" if moment.state == "succeeded" else f", {done}") + attempt
    return done + (f" for {moment.served}" if moment.served > 1 else "") + attempt


def _moments(row: Mapping[str, Any]) -> Iterator[_Moment]:
    for entry in row["trail"]:
        if "step" in entry:
            yield _moment(entry, entry["step"], entry.get("into"), entry.get("where", ""))
    for run in row.get("runs") or ():
        is_own = run["led_by"] == row["id"]
        yield _moment(
            run, place(run["task_id"]).position if is_own else row["step"], None if is_own else run["led_by"], ""
        )


def _moment(found: Mapping[str, Any], step: int, into: int | None, where: str) -> _Moment:
    began_at = _time(found["began_at"])
    assert began_at is not None
    return _Moment(
        step=step,
        run=found["run"],
        state=found["state"],
        attempt=found["attempt"],
        lane_wait_s=found["lane_wait_s"] or 0.0,
        began_at=began_at,
        ended_at=_time(found["ended_at"]),
        served=found.get("served") or 1,
        # Trails of an earlier version do not say.
        defers=found.get("defers") or 0,
        into=into,
        where=where,
        error=found.get("error") or "",
    )


def _gone(*spans: Span) -> list[Span]:
    return [span for span in spans if span.to_s > span.from_s]


def _time(value: datetime | str | None) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _since(origin: datetime, at: datetime | None) -> float:
    assert at is not None
    return max(0.0, (at - origin).total_seconds())
