"""The coalescing scripts and their model side by side, driven by whatever may happen to them.

Each act happens to both, and both have to say the same. What a request is owed is kept apart from both: it ends once, by a
run that began after it was asked for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import redis

from scheduler.core.coalescing import COPY_MS, Answer, Coalescing, Request, State
from scheduler.redis.coalescing import Ask, Execution, Settled, Verdict
from scheduler.redis.queues.keys import wake_key
from tests.support.coalescing import FOLLOWERS_MAX, HELD, LEASE_S, LOOK_S, QUEUES, Raw, World, ask_for, message, read

# Key: its lane, and whether it is a barrier there.
KEYS = {"a": ("L", False), "b": ("L", False), "stop": ("L", True), "c": ("M", True), "d": ("", False)}
MANY = 100  # runs, for a repair


@dataclass(eq=False)
class Held:
    """A message in a worker's hands; with a token, what it began."""

    ask: Ask
    tag: str
    queue: str
    token: str = ""
    followers: tuple[str, ...] = ()
    step: int = 0
    is_flushed: bool = False  # the broker does not know that it is held

    def request(self) -> Request:
        return request_of(self.ask)

    def execution(self) -> Execution:
        return Execution(self.ask.id, self.token, self.ask.lane)


class Play:
    """Whoever is chosen for an act is chosen by any number, counted round."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.world = World(client)
        self.protocol = self.world.protocol
        self.model = Coalescing(LOOK_S * 1000, LEASE_S * 1000, FOLLOWERS_MAX)
        self.step = 0
        self.asks: dict[str, Ask] = {}
        self.asked: dict[str, int] = {}  # the step in which a request was taken
        self.led: dict[str, int] = {}  # the step in which its run was asked for
        self.wanted: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.flushed: set[str] = set()  # as late as who asked for it asks again, and then perhaps done twice
        self.heirs: list[str] = []
        self.taken: dict[str, int] = {}
        self.waiting: list[Held] = []  # taken, and not begun
        self.hands: list[Held] = []  # begun
        self.dead: list[Held] = []  # of workers that died: the broker will hand them out again

    # -- clients

    def ask(self, key: str, rank: int, *, silent: bool = False) -> None:
        lane, barrier = KEYS[key]
        self._join(ask_for(f"{key}{self.step}", key, lane, rank, barrier=barrier), silent=silent)

    def ask_again(self, which: int) -> None:
        """The same id once more: while it is alive nothing happens; when it has ended it is another request."""
        ids = [id_ for id_ in list(self.asks)[-12:] if not self._is_somewhere(id_)]
        if ids:
            self._join(self.asks[ids[which % len(ids)]])

    def give_up(self, which: int, *, by_token: bool, living: bool) -> None:
        ids = [id_ for id_ in self.asks if self._may_run(id_) or not living][-12:]
        if not ids:
            return
        id_ = ids[which % len(ids)]
        token = next((held.token for held in self.hands if held.ask.id == id_), "") if by_token else ""
        expected = self.model.give_up(self.now, id_, token)
        said = self.protocol.give_up(id_, token)
        self._same(said, expected)
        if said.verdict is not Verdict.LOST:
            self._ends([id_])
        if said.verdict is Verdict.HEIR:
            self.heirs.append(said.other)
            self.led[said.other] = self.led[id_]

    def publish_an_heir(self, which: int, *, silent: bool = False) -> None:
        if not self.heirs:
            return
        id_ = self.heirs[which % len(self.heirs)]
        if not silent:
            self.heirs.remove(id_)
        if id_ in self.model.runs:
            self._join(self.asks[id_], silent=silent)

    # -- workers

    def take(self, which: int, *, at_once: bool = True) -> None:
        filled = [queue for queue in QUEUES if self.model.queues.get(queue)]
        if not filled:
            return
        queue = filled[which % len(filled)]
        id_, tag = self.world.take(queue)
        assert self.model.queues[queue].pop() == tag
        self.taken[tag] = self.now
        held = Held(self.asks[id_], tag, queue)
        if at_once:
            self._begin(held)
        else:
            self.waiting.append(held)

    def wake(self, which: int) -> None:
        """A worker that has nothing to do waits for this queue."""
        queue = QUEUES[which % len(QUEUES)]
        assert self.world.is_woken(queue) == (queue in self.model.tokens)
        self.model.tokens.discard(queue)

    def begin_what_was_taken(self, which: int) -> None:
        if self.waiting:
            self._begin(_pop(self.waiting, which))

    def begin_twice(self, which: int) -> None:
        """The answer was lost on the way, and the client asked again."""
        if not self.hands:
            return
        held = self.hands[which % len(self.hands)]
        run = self.model.runs.get(held.ask.id)
        if run and run.token == held.token:
            assert self._began(held) is Verdict.RUN

    def done(self, which: int) -> None:
        if not self.hands:
            return
        held = _pop(self.hands, which)
        run = self.model.runs.get(held.ask.id)
        followers = list(run.followers) if run else []
        said = self.protocol.done(held.ask.id, held.token)
        self._same(said, self.model.done(self.now, held.ask.id, held.token))
        if said.verdict is Verdict.DONE:
            # Who follows it was in its list when it began.
            assert set(followers) <= set(held.followers)
            self._ends([held.ask.id, *followers], held.step)
        self._acknowledge(held)

    def retry(self, which: int, due_in_s: int) -> None:
        if not self.hands:
            return
        held = _pop(self.hands, which)
        tag = f"<{held.ask.id}-{self._number()}>"
        text = message(held.ask.id, tag)
        expected = self.model.again(self.now, held.ask.id, held.token, tag, due_in_s * 1000)
        self._same(self.protocol.again(held.ask.id, held.token, text, tag, due_in_s), expected)
        self._acknowledge(held)

    def return_message(self, which: int) -> None:
        if not self.hands:
            return
        held = _pop(self.hands, which)
        expected = self.model.returned(self.now, held.ask.id, held.token)
        self._same(self.protocol.returned(held.ask.id, held.token), expected)
        if expected.verdict == Verdict.WAITING:
            self._back_to_queue(held)
        else:
            self._acknowledge(held)

    def learn_that_the_lane_is_taken(self, which: int, whom: int, left_s: int) -> None:
        """The truth knows better than Redis; it names somebody whom Redis may know, or a stranger."""
        able = [held for held in self.hands if held.ask.lane]
        if not able:
            return
        held = able[which % len(able)]
        self.hands.remove(held)
        others = [a.id for a in self.asks.values() if a.lane == held.ask.lane and self._may_run(a.id)]
        others = [*[id_ for id_ in others if id_ != held.ask.id][-5:], f"stranger{self._number()}"]
        holder = others[whom % len(others)]
        expected = self.model.behind(self.now, held.ask.id, held.token, holder, left_s * 1000)
        self._same(self.protocol.behind(held.ask.id, held.token, holder, left_s), expected)
        self._acknowledge(held)

    def renew(self, leaving_out: int) -> None:
        living = [held for at, held in enumerate(self.hands) if at != leaving_out]
        expected = self.model.renew(self.now, [(held.request(), held.token) for held in living])
        assert self.protocol.renew([held.execution() for held in living]) == expected

    # -- what goes wrong

    def a_worker_dies(self, which: int) -> None:
        if self.hands or self.waiting:
            self.dead.append(_pop(self.hands or self.waiting, which))

    def the_broker_hands_out_again(self, which: int) -> None:
        if self.dead:
            self._back_to_queue(_pop(self.dead, which))

    def a_message_is_lost(self, which: int) -> None:
        there = [(queue, tag) for queue, tags in self.model.queues.items() for tag in tags]
        if not there:
            return
        queue, tag = there[which % len(there)]
        self.model.queues[queue].remove(tag)
        text = next(text for text in self.client.lrange(queue, 0, -1) if read(text)[1] == tag)
        self.client.lrem(queue, 1, text)

    def flush(self) -> None:
        self.client.flushdb()
        self.model.flush()
        self.taken.clear()
        self.heirs.clear()
        self.dead.clear()
        for held in self.hands + self.waiting:
            held.is_flushed = True
        self.flushed |= set(self.asks)

    # -- time, and what mends

    def time_passes(self, seconds: float) -> None:
        self.world.sleep(seconds)

    def hours_pass(self) -> None:
        """A copy of a message that is handed out no more by then is nowhere; what is executed still is handed out again."""
        ids = {read(text)[0] for queue in QUEUES for text in self.client.lrange(queue, 0, -1)}
        if self.dead or self.waiting or not ids <= set(self.model.runs):
            return
        self.world.sleep(COPY_MS / 2000 + 60)
        self.renew(leaving_out=-1)
        for held in self.hands:
            run = self.model.runs.get(held.ask.id)
            if run and run.token == held.token:
                self._back_to_queue(held)

    def repair(self, at_most: int = MANY) -> None:
        expected = self.model.repair(self.now, at_most, self.taken)
        said = self.protocol.repair(at_most)
        assert said[:4] == expected[:4]
        assert [heir.id for heir in said.heirs] == list(expected.heirs)
        assert all(heir.payload == f"payload of {heir.id}" for heir in said.heirs)
        self.heirs = [*dict.fromkeys([*self.heirs, *expected.heirs])]

    def wind_up(self) -> None:
        """Everything comes to its end, and nothing is left of it."""
        for _ in range(MANY):
            while self.dead:
                self.the_broker_hands_out_again(0)
            while self.waiting:
                self.begin_what_was_taken(0)
            while self.heirs:
                self.publish_an_heir(0)
            while self.hands or any(self.model.queues.values()):
                self.done(0)
                self.take(0)
            if not self.model.runs:
                break
            self.world.sleep(LEASE_S + 1)
            self.repair()
        self.all_is_well()
        assert not self.model.runs
        for id_, times in self.wanted.items():
            assert self.ended[id_] == times or id_ in self.flushed, f"{id_} ended {self.ended[id_]} times of {times}"
        self.world.sleep(COPY_MS / 1000)
        self.repair()
        # Nothing may stay for ever but what is counted.
        assert set(self.client.keys()) <= {"{stoker}:counts", *map(wake_key, QUEUES)}

    # -- what must always be so

    def all_is_well(self) -> None:
        raw = self.world.look()
        self._redis_holds_what_the_model_says(raw)
        self._nothing_contradicts_itself(raw)

    def _redis_holds_what_the_model_says(self, raw: Raw) -> None:
        model = self.model
        assert set(raw.runs) == set(model.runs)
        for id_, run in model.runs.items():
            there = raw.runs[id_]
            assert [there[name] for name in ("state", "key", "lane", "rank", "queue", "attempt")] == (
                [run.state, run.key, run.lane, run.rank, run.queue, run.attempt]
            )
            assert [there.get("token"), there.get("lease") or 0] == [run.token, run.lease]
            assert bool(there.get("copied")) == run.copied
            assert raw.followers_of(id_) == run.followers
            assert raw.due[id_] == run.look_at
            if id_ in raw.messages:
                assert read(raw.messages[id_]) == (id_, run.tag)
        assert raw.open == model.open
        assert raw.lanes == model.lanes
        assert raw.settled == model.settled
        assert all(raw.parked_on(lane) == model.parked(lane) for lane in ("L", "M"))
        assert raw.tokens == model.tokens
        assert raw.queues == {queue: model.queues.get(queue, []) for queue in QUEUES}

    def _nothing_contradicts_itself(self, raw: Raw) -> None:
        runs = raw.runs
        for lane in ("L", "M"):
            running = [id_ for id_, run in runs.items() if run["lane"] == lane and run["state"] == "running"]
            assert running in ([], [raw.lanes.get(lane)]), "I21: one run at a time on a lane"
            assert lane in raw.lanes or not raw.parked_on(lane), "I27: nobody is parked behind a free lane"
        for key, id_ in raw.open.items():
            assert (runs[id_]["state"] != "running", runs[id_]["key"]) == (True, key)
            assert raw.open_ranks[id_] == runs[id_]["rank"], "who asks for more lifts it"
        bare = {id_ for id_, run in self.model.runs.items() if run.bare}
        assert len(raw.parked) == sum(run["state"] == "parked" for run in runs.values())
        assert {member.split("\0")[2] for member in raw.barriers} == {
            i for i, run in runs.items() if run.get("barrier")
        }
        assert {member.split("\0")[2]: member for member in raw.followers} == raw.following
        assert set(raw.due) == set(runs), "whatever happens, somebody looks at it"
        assert set(raw.payloads) == (set(runs) - bare) | set(raw.following)
        assert set(raw.messages) == {id_ for id_, run in runs.items() if run["state"] != "heir"} - bare
        assert not set(runs) & set(raw.following) - bare

    # -- steps

    @property
    def now(self) -> int:
        return self.world.now

    def _number(self) -> int:
        self.step += 1
        return self.step

    def _is_somewhere(self, id_: str) -> bool:
        """Has ended, while a worker still holds it: who asks for it again by the same id asks for two things at once."""
        return id_ not in self.model.runs and any(h.ask.id == id_ for h in self.hands + self.waiting + self.dead)

    def _may_run(self, id_: str) -> bool:
        return self.ended[id_] < self.wanted[id_]

    def _acknowledge(self, held: Held) -> None:
        self.taken.pop(held.tag, None)
        self.client.zrem(HELD, held.tag)

    def _back_to_queue(self, held: Held) -> None:
        """The broker hands a message out again, before all others of its queue: if it was not flushed with all it knew."""
        if not held.is_flushed:
            self.client.rpush(held.queue, message(held.ask.id, held.tag))
            self.model.queues.setdefault(held.queue, []).append(held.tag)
            self._acknowledge(held)

    def _same(self, said: Settled, expected: Answer) -> None:
        assert (said.verdict, said.other) == (expected.verdict, expected.other)
        if said.verdict is Verdict.HEIR:
            assert said.payload == f"payload of {said.other}"

    def _ends(self, ids: list[str], begun: int | None = None) -> None:
        for id_ in ids:
            self.ended[id_] += 1
            late = begun is not None and self.asked.get(id_, 0) > begun
            assert not late or id_ in self.flushed, f"I20: {id_} was served by a run that had begun"

    def _join(self, ask: Ask, *, silent: bool = False, in_hand: bool = False) -> Verdict:
        step = self._number()
        tag = "" if silent else f"<{ask.id}-{step}>"
        live = ask.id in self.model.runs or bool(self.model.leader_of(ask.id))
        expected = self.model.join(self.now, request_of(ask), tag, in_hand=in_hand)
        said = self.protocol.join(ask, tag and message(ask.id, tag), tag, in_hand=in_hand)
        assert (said.verdict, said.leader, said.lifted) == (expected.verdict, expected.other, expected.lifted)
        if not live and said.verdict in {Verdict.LEAD, Verdict.FOLLOW}:
            self.asks[ask.id] = ask
            self.wanted[ask.id] += not in_hand
            self.asked[ask.id] = step
            if said.verdict is Verdict.LEAD:
                self.led[ask.id] = step
            else:
                self._nothing_was_crossed(ask, said.leader)
        return said.verdict

    def _nothing_was_crossed(self, ask: Ask, leader: str) -> None:
        assert self.model.runs[leader].state is not State.RUNNING, "I20: it folds into what has not begun"
        later = [id_ for id_, led in self.led.items() if led > self.led[leader] and self.asks[id_].lane == ask.lane]
        if ask.lane:
            assert not [id_ for id_ in later if self.asks[id_].barrier and id_ in self.model.runs], "I23"
            assert not (ask.barrier and later), "I23: a barrier is behind what came before it"

    def _begin(self, held: Held) -> None:
        """A worker starts on a message that it has taken."""
        held.step = self._number()
        held.token = f"token-{held.step}"
        verdict = self._began(held)
        if verdict is Verdict.UNKNOWN:
            assert held.ask.id in self.flushed
            if self._join(held.ask, in_hand=True) is Verdict.LEAD:
                verdict = self._began(held)
        if verdict is Verdict.RUN:
            self.hands.append(held)
        else:
            self._acknowledge(held)

    def _began(self, held: Held) -> Verdict:
        expected = self.model.begin(self.now, held.ask.id, held.token)
        said = self.protocol.begin(held.ask.id, held.token)
        assert (said.verdict, said.other, said.attempt) == (expected.verdict, expected.other, expected.attempt)
        held.followers = tuple(follower.id for follower in said.followers)
        assert held.followers == expected.followers
        assert all(follower.payload == f"payload of {follower.id}" for follower in said.followers)
        return said.verdict


def request_of(ask: Ask) -> Request:
    return Request(ask.id, ask.key, ask.lane, ask.rank, ask.queue, ask.barrier)


def _pop(helds: list[Held], which: int) -> Held:
    return helds.pop(which % len(helds))
