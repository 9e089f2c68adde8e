"""join, begin and settle, each one round trip to Redis; renew and repair beside them. The rules stand in the .lua files."""

from __future__ import annotations

import enum
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from scheduler.redis.coalescing.calls import PackedCall
from scheduler.redis.lua import constants
from scheduler.redis.queues.keys import WAKE_KEY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import redis

_HERE: Final = Path(__file__).parent
_TAG: Final = "{stoker}:"  # one hash tag: all that a script touches is in one place
_NAMES: Final = (
    "runs",
    "messages",
    "open",
    "lanes",
    "barriers",
    "parked",
    "followers",
    "payloads",
    "due",
    "settled",
    "counts",
    "following",
)
# Each script by the texts that make it, one after the other.
_SCRIPTS: Final = {
    "join": ("_names", "quick", "_shared", "join"),
    **{name: ("_names", "_shared", name) for name in ("begin", "settle", "renew", "repair")},
}
_CLOCK_S: Final = 60.0  # how long the distance to the server's clock is taken to hold


class Verdict(enum.StrEnum):
    """What a script said; each is explained in the header of its .lua file."""

    FOLLOW = "follow"
    LEAD = "lead"
    VACANT = "vacant"
    FULL = "full"
    RUN = "run"
    PARKED = "parked"
    RUNNING = "running"
    SETTLED = "settled"
    HEIR = "heir"
    UNKNOWN = "unknown"
    DONE = "done"
    WAITING = "waiting"
    GONE = "gone"
    LOST = "lost"


_VERDICTS: Final = {verdict.value: verdict for verdict in Verdict}  # quicker than to call the enum


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: an id that wants the effect named by `key`, on the lane of its target."""

    id: str
    key: str
    lane: str  # '' = none: runs of other keys do not exclude it
    rank: int  # of its queue; 0 is the most urgent
    queue: str  # the broker's list
    payload: str  # enough to build its message again
    barrier: bool = False  # nothing folds across it on its lane; the same for every request of a key


class Joined(NamedTuple):
    """How a request was taken."""

    verdict: Verdict  # FOLLOW, LEAD, RUNNING, VACANT or FULL
    leader: str
    lifted: bool = False


class Follower(NamedTuple):
    """A request that finishes with and like the run."""

    id: str
    payload: str


class Begun(NamedTuple):
    """Why a message is no run's beginning; the numbers mean something in a `BegunRun` alone."""

    verdict: Verdict  # PARKED, RUNNING, FOLLOW, SETTLED, HEIR or UNKNOWN
    other: str = ""  # who holds the lane, or whom it follows
    attempt: int = 0
    lane_wait_s: float = 0.0
    asked_s_ago: float = 0.0
    followers: tuple[Follower, ...] = ()


class BegunRun(NamedTuple):
    """A run that has begun."""

    verdict: Verdict  # RUN
    other: str
    attempt: int
    lane_wait_s: float
    asked_s_ago: float
    followers: tuple[Follower, ...]
    defers: int  # how often it parked since its message was published
    queue: str  # the list that its message came from


class Settled(NamedTuple):
    """What became of a run."""

    verdict: Verdict  # DONE, WAITING, HEIR, GONE or LOST
    other: str = ""  # DONE: who was granted the lane; WAITING: who leads; HEIR: who does now
    payload: str = ""  # HEIR: what builds its message


class Repaired(NamedTuple):
    """What one repair found."""

    looked: int
    died: int
    republished: int
    granted: int
    heirs: tuple[Follower, ...]


class Execution(NamedTuple):
    """A run in this process's hands, as `renew` tells it."""

    id: str
    token: str
    lane: str


class Protocol:
    """The scripts on one Redis, the one that is the broker. Safe for threads and forks.

    Whoever has begun a run tells its end through `patient`, which may outwait a restart: all scripts may run twice. Who
    joins asks through `client`, and is told at once that nobody answers. `held_index` is the broker's own key for what
    workers hold unacknowledged; `prefix` stands before every key; `texts` are the scripts in place of the .lua files.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        patient: redis.Redis | None = None,
        prefix: str = "",
        held_index: str = "unacked_index",
        lease_s: float = 15.0,
        look_s: float = 15.0,
        followers_max: int = 100_000,
        texts: Mapping[str, str] | None = None,
    ) -> None:
        self._client = client
        self._patient = patient or client
        self._keys = [f"{prefix}{_TAG}{name}" for name in _NAMES] + [prefix + held_index]
        self._lease_ms = round(lease_s * 1000)
        texts = script_texts() if texts is None else texts
        head = constants(PREFIX=prefix, WAKE=WAKE_KEY, FOLLOWERS_MAX=followers_max, LOOK_MS=round(look_s * 1000))
        self._scripts = {
            name: client.register_script(head + "".join(texts[part] for part in parts))
            for name, parts in _SCRIPTS.items()
        }
        self._join = PackedCall(client, self._scripts["join"], self._keys)
        self._ahead_s, self._asked_clock = 0.0, -_CLOCK_S
        self.lease_s = lease_s

    def join(self, ask: Ask, message: str = "", tag: str = "", *, in_hand: bool = False) -> Joined:
        """Follow the open run of the key; or lead, if a message is given, which is published in the same step.

        A message `in_hand` of a worker is not published. The same id may join again: nothing happens twice.
        """
        assert bool(tag) == bool(message), "copies of a message are told apart by their tags"
        assert tag in message, f"the message of {ask.id} carries its tag"
        asked = (self.now_ms(), ask.id, ask.key, ask.lane, ask.rank, ask.queue, int(ask.barrier), ask.payload)
        verdict, leader, *lifted = self._join((*asked, message, tag, int(in_hand)) if message else asked)
        return Joined(_VERDICTS[verdict], leader, bool(lifted and lifted[0]))

    def begin(self, id_: str, token: str) -> Begun | BegunRun:
        """Seal the run and take its lane, or learn why this message begins nothing."""
        verdict, *rest = self._run("begin", id_, token, self._lease_ms)
        if verdict != Verdict.RUN:
            return Begun(Verdict(verdict), rest[0] if rest else "")
        attempt, waited_ms, asked_ms, defers, queue, *flat = rest
        return BegunRun(
            Verdict.RUN,
            "",
            attempt=int(attempt),
            lane_wait_s=int(waited_ms) / 1000,
            asked_s_ago=max(0.0, self.now_ms() - int(asked_ms)) / 1000,
            followers=_pairs(flat),
            defers=int(defers),
            queue=queue,
        )

    def done(self, id_: str, token: str) -> Settled:
        """The run has ended and its followers have been told."""
        return self._settle(id_, token, "done")

    def again(self, id_: str, token: str, message: str, tag: str, due_in_s: float) -> Settled:
        """The run retries with a new message, due in so long."""
        assert tag, "copies of a message are told apart by their tags"
        assert tag in message, f"the message of {id_} carries its tag"
        return self._settle(id_, token, "again", message, tag, max(0, round(due_in_s * 1000)))

    def returned(self, id_: str, token: str) -> Settled:
        """The broker has the run's message again."""
        return self._settle(id_, token, "returned")

    def behind(self, id_: str, token: str, holder: str, lease_left_s: float) -> Settled:
        """The truth knows of a run in this lane that Redis has forgotten: wait for that one."""
        return self._settle(id_, token, "behind", holder, "", max(1, round(lease_left_s * 1000)))

    def give_up(self, id_: str, token: str = "") -> Settled:
        """The request will not run. Without a token, whatever became of it so far."""
        return self._settle(id_, token, "given_up")

    def renew(self, executions: Collection[Execution]) -> set[str]:
        """Say that these live; the ids of those that are their runs' no longer."""
        if not executions:
            return set()
        return set(self._run("renew", self._lease_ms, *(part for execution in executions for part in execution)))

    def repair(self, at_most: int) -> Repaired:
        """Look at runs that went unseen: republish what was lost, begin anew what died. Heirs are the caller's to publish."""
        looked, died, republished, granted, *flat = self._run("repair", at_most)
        return Repaired(int(looked), int(died), int(republished), int(granted), _pairs(flat))

    def followers(self, id_: str) -> tuple[Follower, ...]:
        """Who follows a run now, oldest first."""
        members = cast("list[str]", self._client.zrangebylex(self._keys[6], f"[{id_}\0", f"({id_}\1"))
        ids = [member.rpartition("\0")[2] for member in members]
        payloads = cast("list[str | None]", self._client.hmget(self._keys[7], ids)) if ids else []
        return tuple(Follower(id_, payload) for id_, payload in zip(ids, payloads, strict=True) if payload is not None)

    def state(self, id_: str) -> str | None:
        """Where the run of this leader is; None when it leads none."""
        run = cast("str | None", self._client.hget(self._keys[0], id_))
        return None if run is None else str(json.loads(run)["state"])

    def known(self, ids: Sequence[str]) -> list[bool]:
        """Whether Redis knows each of these requests, leading or following."""
        if not ids:
            return []
        with self._client.pipeline(transaction=False) as pipe:
            pipe.hmget(self._keys[0], list(ids))
            pipe.hmget(self._keys[11], list(ids))
            leading, following = pipe.execute()
        return [a is not None or b is not None for a, b in zip(leading, following, strict=True)]

    def counts(self) -> dict[str, int]:
        """Requests that led, folded, were lifted, parked; runs that began, ended, were inherited: since the last flush."""
        found = cast("dict[str, str]", self._client.hgetall(self._keys[10]))
        counts = {name: int(value) for name, value in found.items()}
        # The scripts number runs and followers by these, and so count what nobody had asked for, too.
        for name, besides in (("led", "bare"), ("folded", "handed")):
            if name in counts:
                counts[name] -= counts.pop(besides, 0)
        return counts

    def now_ms(self) -> int:
        """The server's clock, by this process's: leases are compared by one clock, and no call pays a trip for it."""
        if time.monotonic() - self._asked_clock > _CLOCK_S:
            before = time.monotonic()
            seconds, micros = self._client.time()
            self._asked_clock = time.monotonic()
            self._ahead_s = seconds + micros / 1e6 - (before + self._asked_clock) / 2
        return round((time.monotonic() + self._ahead_s) * 1000)

    def _settle(self, id_: str, token: str, outcome: str, *more: str | int) -> Settled:
        verdict, *rest = self._run("settle", id_, token, outcome, *more)
        return Settled(Verdict(verdict), *rest)

    def _run(self, name: str, *args: str | int) -> list[Any]:
        timed = [self.now_ms(), *args]
        return cast("list[Any]", self._scripts[name](keys=self._keys, args=timed, client=self._patient))


def script_texts() -> dict[str, str]:
    """The .lua files, by their names."""
    return {
        name: (_HERE / f"{name}.lua").read_text(encoding="utf-8") for name in sorted(set().union(*_SCRIPTS.values()))
    }


def _pairs(flat: Iterable[str]) -> tuple[Follower, ...]:
    parts = iter(flat)
    return tuple(Follower(id_, payload) for id_, payload in zip(parts, parts, strict=True))
