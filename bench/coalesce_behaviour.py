"""How the four behave where it matters, each answer seen in an experiment with real workers.

All experiments of all ways run beside each other, each on keys of its own. Leaders that are to be revoked, to expire or to be
killed wait in queues that no worker serves before the stage is set.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from celery import states
from celery.result import EagerResult

from bench.coalesce_app import SERVED, STOCK, STOKER
from tasks.coalescing.repair import repair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery

    from bench.coalesce_workers import Workers
    from bench.progress import Progress

VICTIM: Final = "victim"
SURVIVOR: Final = "survivor"
PATIENCE_LEASES: Final = 3
_STEP_S_MAX: Final = 30.0
_EXPIRES_S: Final = 0.2
_SHELVES: Final = ("revoked", "expired", "killed")
# What is asked of each way, by the name of its key.
_UPDATE: Final = "update"
_TWO: Final = "two"
_CASES: Final = ("duplicate", "later", "alone")
_REPAIRED_AT_ONCE: Final = 500


@dataclass
class Behaviour:
    """The answers of one way."""

    broken: str = ""  # the error of a submit that failed: then nothing else is known
    loses_update: bool | None = None
    waiter_gets: str = ""  # own, older or nothing: the result of a run that began after it asked, or before
    runs_two_at_once: bool | None = None
    # Each by how the leader ended. None: not within the patience.
    duplicate_served_s: dict[str, float | None] = field(default_factory=dict)  # asked for before that
    later_runs_s: dict[str, float | None] = field(default_factory=dict)  # asked for after that
    killed_begins_again_s: float | None = None  # with nobody asking

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        if self.broken:
            return {"broken": self.broken}
        return {
            "loses_update": self.loses_update,
            "waiter_of_duplicate_gets": self.waiter_gets,
            "runs_two_at_once": self.runs_two_at_once,
            **{
                f"{ended}_leader": {
                    "duplicate_served": self.duplicate_served_s[ended] is not None,
                    "key_free": self.later_runs_s[ended] is not None,
                }
                for ended in _SHELVES
            },
            "killed_leader_s": {
                "duplicate_served": self.duplicate_served_s["killed"],
                "later_submit_ran": self.later_runs_s["killed"],
                "began_again_by_itself": self.killed_begins_again_s,
            },
        }


class Stage:
    """The experiments of all ways, step by step."""

    def __init__(self, app: Celery, workers: Workers, ways: tuple[str, ...]) -> None:
        self._app, self._workers, self._board = app, workers, workers.board
        self.found = {way: Behaviour() for way in ways}
        self._duplicates: dict[str, Any] = {}
        self._revoked: list[str] = []
        self._began_two = self._killed_at = 0.0

    @property
    def _ways(self) -> list[str]:
        return [way for way, found in self.found.items() if not found.broken]

    def run(self, progress: Progress) -> None:
        """All of them."""
        with self._repairing():
            self._begin(progress)
            self._overtake_the_reader()
            self._end_leaders(progress)
            self._ask_later()
            self._look(progress)
            self._board.let(*self._keys(_TWO))
            killed = len(self._ways) * len(_CASES)
            self._workers.until(
                lambda: self._workers.is_quiet(SERVED, *_SHELVES, held=killed),
                "the end of all experiments",
                _STEP_S_MAX,
            )
        for way in self._ways:
            self._judge(way)

    def _begin(self, progress: Progress) -> None:
        """Runs that are held, and leaders on their shelves with a duplicate each."""
        progress.say("behaviour: leaders and their duplicates")
        self._board.hold(*self._keys(_UPDATE), *self._keys(_TWO), *self._keys("killed", *_CASES))
        for way in list(self.found):
            try:
                self._begin_way(way)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                self.found[way].broken = f"{type(error).__name__}: {error}"
        self._began_two = time.monotonic()
        for key in (*self._keys(_UPDATE), *self._keys(_TWO)):
            self._until_said("begun", key)

    def _begin_way(self, way: str) -> None:
        self._board.write_state(_key(way, _UPDATE), 1)
        self._submit(way, _UPDATE, held=True)
        self._submit(way, _TWO, held=True)
        for shelf in _SHELVES:
            for case in _CASES if shelf == "killed" else _CASES[:-1]:
                how = {"expires": _EXPIRES_S} if shelf == "expired" else {}
                leader = self._submit(way, f"{shelf}.{case}", held=True, queue=shelf, **how)
                if shelf == "revoked":
                    self._revoked.append(leader.id)
            self._submit(way, f"{shelf}.duplicate")

    def _overtake_the_reader(self) -> None:
        """The run has read the state; it changes, and somebody asks for a run because of that."""
        for way in self._ways:
            self._board.write_state(_key(way, _UPDATE), 2)
            self._duplicates[way] = self._submit(way, _UPDATE)
        self._board.let(*self._keys(_UPDATE))

    def _end_leaders(self, progress: Progress) -> None:
        """Revoked, expired, killed in mid-run."""
        progress.say("behaviour: leaders that end")
        self._app.control.revoke(self._revoked, reply=True, limit=2, timeout=_STEP_S_MAX)
        time.sleep(_EXPIRES_S)
        self._serve(SURVIVOR, "revoked", "expired")
        self._serve(VICTIM, "killed")
        for way in self._ways:
            for case in _CASES:
                self._until_said("begun", _key(way, f"killed.{case}"), VICTIM)
        self._until_taken("revoked", "expired")
        self._board.unhold(*self._keys("killed", *_CASES))
        self._workers.kill(VICTIM)
        self._killed_at = time.time()
        self._serve(SURVIVOR, "killed")

    def _serve(self, worker: str, *queues: str) -> None:
        for queue in queues:
            self._app.control.add_consumer(queue, destination=[f"{worker}@bench"], reply=True, timeout=_STEP_S_MAX)

    def _ask_later(self) -> None:
        """After the leaders' ends; and beside a run that has been going on for longer than a lease."""
        self._ask_in_vain()
        time.sleep(max(0.0, self._began_two + 1.25 * max(1.0, self._workers.lease_s) - time.monotonic()))
        for way in self._ways:
            self._submit(way, _TWO)
        self._until_taken(SERVED)

    def _look(self, progress: Progress) -> None:
        """Until all that can be hoped for has come; whoever has nothing by the end of the patience gets nothing."""
        progress.say("behaviour: what still comes")
        over_at = self._killed_at + PATIENCE_LEASES * self._workers.lease_s
        while time.time() < over_at and not all(self._has_all(way) for way in self._ways):
            # A lock that has an expiry is free some time: whoever asks again then must be heard.
            self._ask_in_vain()
            time.sleep(self._workers.lease_s / 4)
        # What Stoker promises comes, however slow the machine is.
        self._workers.comes(lambda: self._has_all(STOKER), _STEP_S_MAX)

    def _ask_in_vain(self) -> None:
        for way in self._ways:
            for shelf in _SHELVES:
                if not self._board.said("ended", _key(way, f"{shelf}.later")):
                    self._submit(way, f"{shelf}.later")

    def _has_all(self, way: str) -> bool:
        keys = [_key(way, f"{shelf}.{case}") for shelf in _SHELVES for case in ("duplicate", "later")]
        return all(self._board.said("ended", key) for key in (*keys, _key(way, "killed.alone")))

    def _judge(self, way: str) -> None:
        found = self.found[way]
        found.loses_update = not any(end["state"] == 2 for end in self._board.said("ended", _key(way, _UPDATE)))
        found.waiter_gets = _got(self._duplicates[way])
        found.runs_two_at_once = any(begin["beside"] for begin in self._board.said("begun", _key(way, _TWO)))
        for shelf in _SHELVES:
            found.duplicate_served_s[shelf] = self._first_end_s(way, f"{shelf}.duplicate")
            found.later_runs_s[shelf] = self._first_end_s(way, f"{shelf}.later")
        found.killed_begins_again_s = self._first_end_s(way, "killed.alone")

    def _first_end_s(self, way: str, what: str) -> float | None:
        ends = self._board.said("ended", _key(way, what))
        return max(0.0, round(ends[0]["at"] - self._killed_at, 3)) if ends else None

    def _submit(self, way: str, what: str, *, held: bool = False, **how: Any) -> Any:  # noqa: ANN401 - of apply_async
        return self._app.tasks[f"{way}.staged"].apply_async((_key(way, what), held), **how)

    def _keys(self, what: str, *cases: str) -> list[str]:
        return [_key(way, f"{what}.{case}" if case else what) for way in self.found for case in cases or ("",)]

    def _until_said(self, event: str, key: str, worker: str = "") -> None:
        self._workers.until(
            lambda: [one for one in self._board.said(event, key) if worker in {"", one["worker"]}],
            f"{key} has {event} {worker}",
            _STEP_S_MAX,
        )

    def _until_taken(self, *queues: str) -> None:
        """Whatever was queued there before has reached a worker: a queue is served in its order, and slots are free."""
        for queue in queues:
            self._submit(STOCK, f"sentinel.{time.monotonic()}", queue=queue).get(timeout=_STEP_S_MAX)

    @contextmanager
    def _repairing(self) -> Iterator[None]:
        """Stoker's sweep, for as long as the block."""
        over = threading.Event()

        def sweep() -> None:
            while not over.wait(self._workers.lease_s / 4):
                repair(self._app, _REPAIRED_AT_ONCE)

        thread = threading.Thread(target=sweep, name="bench-sweep", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _key(way: str, what: str) -> str:
    return f"{way}.{what}"


def _got(result: Any) -> str:  # noqa: ANN401 - Celery's
    if isinstance(result, EagerResult) or result.state != states.SUCCESS:
        return "nothing"
    return "own" if result.result == 2 else "older"
