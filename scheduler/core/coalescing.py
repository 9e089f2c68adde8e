"""Requests for the same effect share one run, and no update is lost (I20 to I27).

The model of what scheduler/redis/coalescing does in Redis: each verb is one step there, atomic and answered alike. Times are
milliseconds. A message is known by its delivery tag; a queue gives out its last message first, and
beside each message put into it a token has to be there, for the workers that wait for one.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

GRANT_MS: Final = 5_000
COPY_MS: Final = 2 * 3_600_000
_COPIES_SLOWED: Final = 6


class State(enum.StrEnum):
    """Where a run is between its request and its end."""

    PENDING = "pending"
    PARKED = "parked"
    GRANTED = "granted"
    RUNNING = "running"
    HEIR = "heir"


class Request(NamedTuple):
    """An id that wants the effect `key` on the target `lane` ('' = runs of other keys do not exclude it)."""

    id: str
    key: str
    lane: str
    rank: int
    queue: str
    barrier: bool = False


class Answer(NamedTuple):
    """What a verb says: its verdict, whom it speaks of, and what else there is."""

    verdict: str
    other: str = ""
    lifted: bool = False
    attempt: int = 0
    followers: tuple[str, ...] = ()


class Repaired(NamedTuple):
    """What a repair did: how many runs it looked at, by what they lacked, and the heirs that nobody has published."""

    looked: int
    died: int
    republished: int
    granted: int
    heirs: tuple[str, ...]


@dataclass(slots=True)
class Run:
    """A request that leads."""

    id: str
    key: str
    lane: str
    rank: int
    queue: str
    barrier: bool
    place: int  # in the order in which runs were asked for
    asked: int
    state: State = State.PENDING
    lease: int = 0
    look_at: int = 0
    token: str | None = None
    attempt: int = 0
    followers: list[str] = field(default_factory=list)
    first_tag: str = ""
    tag: str = ""  # of its newest message
    copies: int = 0
    copied: bool = False  # a second message of it may come after its end
    bare: bool = False  # known by signs of life alone: there is no message of it to wait with


class Coalescing:
    """All runs, lanes and queues of one broker."""

    def __init__(self, look_ms: int, lease_ms: int, followers_max: int) -> None:
        self.look_ms, self.lease_ms, self.followers_max = look_ms, lease_ms, followers_max
        self.flush()

    def flush(self) -> None:
        """Forget everything, the queues as well."""
        self.runs: dict[str, Run] = {}
        self.open: dict[str, str] = {}
        self.lanes: dict[str, str] = {}
        self.settled: dict[str, int] = {}
        self.queues: dict[str, list[str]] = {}
        self.tokens: set[str] = set()  # queues that somebody has to wake up for
        self._places = 0

    def join(self, now: int, request: Request, tag: str = "", *, in_hand: bool = False) -> Answer:
        """Follow the open run of the key; or lead, if there is a message (its tag) to lead with."""
        run = self.runs.get(request.id)
        if run and run.state is not State.HEIR:
            return Answer("running" if run.state is State.RUNNING else "lead", run.id)
        if followed := self.leader_of(request.id):
            return Answer("follow", followed)
        leader = self._open_run(request.key)
        if leader and not run:
            if len(leader.followers) >= self.followers_max:
                return Answer("full", leader.id)
            leader.followers.append(request.id)
            return Answer("follow", leader.id, lifted=self._lift(leader, request.rank, request.queue))
        if not tag:
            return Answer("vacant")
        self._came_to_lane(request.lane)
        if not run:
            run = self._new(now, request)
            self.open[run.key] = run.id
        run.state, run.tag, run.first_tag = State.PENDING, tag, tag
        run.look_at = now + self.look_ms
        if not in_hand:
            self._publish(run, tag)
        return Answer("lead", run.id)

    def begin(self, now: int, id_: str, token: str) -> Answer:
        """A worker has a message of this request: does the run begin with it?"""
        run = self.runs.get(id_)
        if not run:
            if followed := self.leader_of(id_):
                return Answer("follow", followed)
            return Answer("settled" if id_ in self.settled else "unknown")
        if run.state is State.HEIR:
            return Answer("heir")
        if run.state is State.RUNNING and run.lease > now and run.token != token:
            return Answer("running", id_)
        if run.lane:
            holder = self.runs.get(self.lanes.get(run.lane, ""))
            if holder and holder is not run and holder.lease > now:
                self._park(now, run)
                return Answer("parked", holder.id)
            self.lanes[run.lane] = id_
            if holder and holder is not run and holder.state is State.RUNNING:
                self._wait_again(now, holder, died=True)
        self._close(run)
        run.attempt += run.token != token
        run.state, run.token = State.RUNNING, token
        run.lease = run.look_at = now + self.lease_ms
        return Answer("run", attempt=run.attempt, followers=tuple(run.followers))

    def done(self, now: int, id_: str, token: str) -> Answer:
        """The run has ended, and with it all who follow it."""
        run = self._mine(id_, token)
        if not run or run.state is not State.RUNNING:
            return Answer("lost")
        self._unfollow(id_)
        self._forget(now, run)
        return Answer("done", self._free_lane(now, run))

    def again(self, now: int, id_: str, token: str, tag: str, due_in_ms: int) -> Answer:
        """The run retries with a new message."""
        answer = self._waits(now, id_, token, due_in_ms)
        if answer == Answer("waiting", id_):
            run = self.runs[id_]
            run.tag = run.first_tag = tag
            run.copies = 0
            self._publish(run, tag)
        return answer

    def returned(self, now: int, id_: str, token: str) -> Answer:
        """The broker has the run's message again."""
        return self._waits(now, id_, token)

    def behind(self, now: int, id_: str, token: str, holder: str, left_ms: int) -> Answer:
        """The truth says that its lane is another's, for so long at least."""
        run = self._mine(id_, token)
        if not run or run.state is not State.RUNNING:
            return Answer("lost")
        other = self.runs.get(holder) or self._bare(now, holder, run.lane)
        other.lease = other.look_at = max(other.lease, now + left_ms)
        self.lanes[run.lane] = holder
        answer = self._waits(now, id_, token)
        if answer == Answer("waiting", id_):
            self._park(now, run)
        return answer

    def give_up(self, now: int, id_: str, token: str = "") -> Answer:
        """The request will not run; who followed it gets another leader at once."""
        run = self.runs.get(id_)
        if run and not self._mine(id_, token):
            return Answer("lost")
        followed = self._unfollow(id_)
        if not run:
            return Answer("gone" if followed else "lost")
        run.copied = True
        self._forget(now, run)
        other, answer = self._other_open(run), Answer("gone")
        if run.followers and other:
            self._fold(run.followers, run, other)
        elif run.followers:
            first, *rest = run.followers
            heir = Run(first, run.key, run.lane, run.rank, run.queue, run.barrier, run.place, run.asked, State.HEIR)
            heir.copied, heir.followers, heir.look_at = True, rest, now + self.look_ms
            heir.lease = self.runs[first].lease if first in self.runs else 0
            self.runs[first] = heir
            self._reopen(heir)
            answer = Answer("heir", first)
        self._free_lane(now, run)
        return answer

    def renew(self, now: int, living: Iterable[tuple[Request, str]]) -> set[str]:
        """These executions live; those that are no longer their runs'."""
        lost = set()
        for request, token in living:
            run = self.runs.get(request.id)
            unheard = not run and not self.leader_of(request.id) and request.id not in self.settled
            told_of = run and run.state is State.RUNNING and run.token is None
            if (unheard or told_of) and self.lanes.get(request.lane, request.id) == request.id:
                run = self._bare(now, request.id, request.lane)
                run.token = token
                if request.lane:
                    self.lanes[request.lane] = request.id
            if run and run.state is State.RUNNING and run.token == token:
                run.lease = run.look_at = now + self.lease_ms
            else:
                lost.add(request.id)
        return lost

    def repair(self, now: int, at_most: int, taken: Mapping[str, int]) -> Repaired:
        """Give runs that went unseen what they lack. `taken`: when workers took the messages that they hold, by tag."""
        due = sorted((r.look_at, r.id) for r in self.runs.values() if r.look_at <= now)[:at_most]
        died, republished, granted = 0, 0, 0
        heirs = []
        for _, id_ in due:
            run = self.runs.get(id_)
            if not run or run.look_at > now:
                continue
            run.look_at = now + self.look_ms
            if run.state is State.RUNNING:
                self._wait_again(now, run, died=True)
                died += 1
            elif run.state is State.HEIR:
                heirs.append(id_)
            elif run.state is State.PARKED:
                holder = self.runs[self.lanes[run.lane]]
                if holder.lease <= now and holder.state is State.RUNNING:
                    self._wait_again(now, holder, died=True)
                    died += 1
                elif holder.lease <= now:
                    self._hand_lane_on(now, run.lane)
                    granted += 1
            else:
                if run.state is State.GRANTED:
                    run.state, run.lease = State.PENDING, 0
                    self._free_lane(now, run)
                if run.tag not in self._queue(run) and taken.get(run.tag, now - self.look_ms) <= now - self.look_ms:
                    run.copied = True
                    self._publish(run, self._copy(run))
                    self._came_to_lane(run.lane)
                    republished += 1
                run.look_at = now + self.look_ms * 2 ** min(run.copies, _COPIES_SLOWED)
        self.settled = {id_: until for id_, until in self.settled.items() if until > now}
        return Repaired(len(due), died, republished, granted, tuple(heirs))

    def leader_of(self, id_: str) -> str:
        """Whom a request follows, or ''."""
        return next((run.id for run in self.runs.values() if id_ in run.followers), "")

    def parked(self, lane: str) -> list[str]:
        """Who waits for a lane, next first."""
        waiting = [run for run in self.runs.values() if run.lane == lane and run.state is State.PARKED]
        return [run.id for run in sorted(waiting, key=lambda run: (run.rank, run.place))]

    def _new(self, now: int, request: Request) -> Run:
        self._places += 1
        run = self.runs[request.id] = Run(*request, place=self._places, asked=now)
        return run

    def _bare(self, now: int, id_: str, lane: str) -> Run:
        run = self._new(now, Request(id_, "", lane, 0, ""))
        run.state, run.attempt, run.bare = State.RUNNING, 1, True
        return run

    def _queue(self, run: Run) -> list[str]:
        return self.queues.setdefault(run.queue, [])

    def _publish(self, run: Run, tag: str, *, first: bool = False) -> None:
        queue = self._queue(run)
        queue.insert(len(queue) if first else 0, tag)
        self.tokens.add(run.queue)

    def _mine(self, id_: str, token: str) -> Run | None:
        run = self.runs.get(id_)
        told_of = run and run.state is State.RUNNING and run.token is None
        return run if run and (not token or run.token == token or told_of) else None

    def _is_barred(self, run: Run) -> bool:
        return any(b.barrier and b.lane == run.lane and b.place > run.place for b in self.runs.values())

    def _open_run(self, key: str) -> Run | None:
        run = self.runs.get(self.open.get(key, ""))
        return run if run and not self._is_barred(run) else None

    def _other_open(self, run: Run) -> Run | None:
        return None if self._is_barred(run) else self._open_run(run.key)

    def _reopen(self, run: Run) -> None:
        if not run.barrier and not self._is_barred(run):
            self.open[run.key] = run.id

    def _close(self, run: Run) -> None:
        if self.open.get(run.key) == run.id:
            del self.open[run.key]

    def _came_to_lane(self, lane: str) -> None:
        for barrier in [b for b in self.runs.values() if b.barrier and b.lane == lane]:
            self._close(barrier)

    def _copy(self, run: Run) -> str:
        run.copies += 1
        run.tag = f"{run.first_tag}.{run.copies}"
        return run.tag

    def _lift(self, run: Run, rank: int, queue: str) -> bool:
        if rank >= run.rank:
            return False
        run.rank, run.queue = rank, queue
        if run.state in {State.PENDING, State.GRANTED}:
            run.copied = True
            self._publish(run, self._copy(run))
        return True

    def _unfollow(self, id_: str) -> bool:
        leader = self.runs.get(self.leader_of(id_))
        if leader:
            leader.followers.remove(id_)
        return bool(leader)

    def _fold(self, ids: Iterable[str], run: Run, leader: Run) -> None:
        leader.followers.extend(ids)
        self._lift(leader, run.rank, run.queue)

    def _forget(self, now: int, run: Run) -> None:
        self._close(run)
        del self.runs[run.id]
        if run.copied or now - run.asked > COPY_MS // 2:
            self.settled[run.id] = now + COPY_MS

    def _park(self, now: int, run: Run) -> None:
        run.state, run.look_at = State.PARKED, now + self.look_ms

    def _hand_lane_on(self, now: int, lane: str) -> str:
        waiting = self.parked(lane)
        if not waiting:
            return ""
        run = self.runs[waiting[0]]
        run.state = State.GRANTED
        run.lease = run.look_at = now + GRANT_MS
        self.lanes[lane] = run.id
        self._publish(run, self._copy(run), first=True)
        return run.id

    def _free_lane(self, now: int, run: Run) -> str:
        if self.lanes.get(run.lane) != run.id:
            return ""
        del self.lanes[run.lane]
        return self._hand_lane_on(now, run.lane)

    def _waits(self, now: int, id_: str, token: str, after_ms: int = 0) -> Answer:
        run = self._mine(id_, token)
        if not run or run.state is not State.RUNNING:
            return Answer("lost")
        leader = self._wait_again(now, run, after_ms)
        return Answer("waiting", leader) if leader else Answer("lost")

    def _wait_again(self, now: int, run: Run, after_ms: int = 0, *, died: bool = False) -> str:
        other, leader = self._other_open(run), run.id
        if run.bare:
            self._forget(now, run)
            leader = ""
        elif other:
            run.copied = True
            self._forget(now, run)
            self._fold([run.id, *run.followers], run, other)
            leader = other.id
        else:
            run.state, run.token, run.lease = State.PENDING, None, 0
            run.look_at = now + after_ms + self.look_ms
            self._came_to_lane(run.lane)
            self._reopen(run)
            if died:
                run.copied = True
                self._publish(run, self._copy(run))
        self._free_lane(now, run)
        return leader
