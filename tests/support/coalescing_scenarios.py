"""What the coalescing scripts promise, each in a few steps: a function of a new world that ends with nothing left in it.

tests/redis/test_coalescing_mutations.py breaks each guard of the scripts and names the scenario that notices.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Final

from scheduler.redis.coalescing import Ask, Protocol, Verdict
from scheduler.redis.queues.keys import wake_key
from tests.support.coalescing import HELD, LEASE_S, LOOK_S, World, ask_for, message

Scenario = Callable[[World], None]
SCENARIOS: Final[dict[str, Scenario]] = {}

GRANT_S = 5
HOUR_S = 3600
V = Verdict


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


def run(w: World, *ids: str) -> None:
    """Each begins and ends."""
    for id_ in ids:
        assert w.begin(id_).verdict is V.RUN
        assert w.done(id_).verdict is V.DONE


def followers(w: World, id_: str, token: str = "") -> list[str]:
    begun = w.begin(id_, token)
    assert begun.verdict is V.RUN
    assert [f.payload for f in begun.followers] == [f"payload of {f.id}" for f in begun.followers]
    return [f.id for f in begun.followers]


# -- I20: what is asked for before a run begins is done by it, what is asked for afterwards is not


@scenario
def requests_follow_the_run_that_has_not_begun(w: World) -> None:
    assert w.ask("a") == (V.LEAD, "a", False)
    assert w.ask("z") == w.ask("y") == (V.FOLLOW, "a", False)
    assert w.queued() == ["<a>"]
    w.sleep(2)
    begun = w.begin("a")
    assert (begun.verdict, begun.attempt, begun.lane_wait_s, begun.asked_s_ago) == (V.RUN, 1, 0, 2)
    assert begun.followers == (("z", "payload of z"), ("y", "payload of y"))
    assert w.ask("b") == (V.LEAD, "b", False), "it may have come too late for a to see its reason"
    assert w.protocol.known(["a", "y", "b", "x"]) == [True, True, True, False]
    assert w.done("a") == (V.DONE, "", "")
    assert w.protocol.known(["a", "y", "b"]) == [False, False, True]
    run(w, "b")
    w.nothing_is_left()
    assert w.protocol.counts() == {"led": 2, "folded": 2, "begun": 2, "ended": 2}


@scenario
def the_same_request_twice_is_one(w: World) -> None:
    w.ask("a")
    assert w.ask("a") == (V.LEAD, "a", False)
    assert w.queued() == ["<a>"]
    w.ask("b")
    assert w.ask("b") == w.ask("b", rank=0) == (V.FOLLOW, "a", False)
    assert followers(w, "a") == ["b"]
    assert w.ask("a") == (V.RUNNING, "a", False)
    assert w.ask("b") == (V.FOLLOW, "a", False)
    w.done("a")
    w.nothing_is_left()
    assert w.ask("a").verdict is V.LEAD, "once it has ended, the same id is another request"
    run(w, "a")
    w.nothing_is_left()


@scenario
def who_asks_without_a_message_learns_that_nobody_leads(w: World) -> None:
    assert w.ask("a", silent=True) == (V.VACANT, "", False)
    w.nothing_is_left()
    w.ask("a")
    assert w.ask("b", silent=True) == (V.FOLLOW, "a", False)
    run(w, "a")
    w.nothing_is_left()


@scenario
def a_run_has_no_more_followers_than_it_may(w: World) -> None:
    w.ask("a")
    for id_ in "bcde":
        assert w.ask(id_).verdict is V.FOLLOW
    assert w.ask("f") == (V.FULL, "a", False)
    assert followers(w, "a") == ["b", "c", "d", "e"]
    w.done("a")
    w.nothing_is_left()


@scenario
def whatever_is_published_wakes_who_waits_for_it(w: World) -> None:
    w.ask("a", "k1")
    w.ask("b", "k2", "M")
    assert w.look().tokens == {"q1"}, "one token for both"
    assert w.is_woken()
    w.ask("c", "k1")
    assert not w.is_woken(), "nothing is published for who follows"
    w.begin("a")
    w.again("a")
    assert w.is_woken(), "for the retry"
    w.ask("d", "k1", rank=0)
    assert w.look().tokens == {"q0"}, "for who is lifted"
    assert w.is_woken("q0")
    run(w, "a", "b")
    w.nothing_is_left()


@scenario
def who_waits_behind_a_prefix_is_woken(w: World) -> None:
    protocol = Protocol(w.client, prefix="p:", texts=w.texts)
    with closing(protocol._join):
        protocol.join(Ask("a", "k", "L", 1, "p:q1", "payload"), message("a", "<a>"), "<a>")
    assert w.client.rpop("p:" + wake_key("q1")) == "1"
    assert protocol.begin("a", "by-a").verdict is V.RUN
    assert protocol.done("a", "by-a").verdict is V.DONE


@scenario
def who_gives_signs_of_life_after_a_flush_follows_nobody(w: World) -> None:
    w.ask("a")
    w.begin("a")
    w.client.flushdb()
    assert w.renew("a")
    w.ask("b")
    assert w.ask("a") == (V.RUNNING, "a", False), "it may be told that it does, but not do it for itself"
    assert w.done("a").verdict is V.DONE
    run(w, "b")
    w.nothing_is_left()


@scenario
def a_barrier_of_another_lane_keeps_nobody_from_folding(w: World) -> None:
    w.ask("s", "stop", "M", barrier=True)
    w.ask("a")
    assert w.ask("b") == w.ask("c", rank=2) == (V.FOLLOW, "a", False)
    assert followers(w, "a") == ["b", "c"]
    w.done("a")
    run(w, "s")
    w.nothing_is_left()


@scenario
def names_that_begin_alike_are_not_mixed_up(w: World) -> None:
    w.ask("a", "k", "L")
    w.ask("aa", "kk", "LL")
    w.ask("b", "k", "L")
    w.ask("c", "kk", "LL")
    assert followers(w, "aa") == ["c"]
    assert followers(w, "a") == ["b"]
    w.done("aa")
    w.done("a")
    w.nothing_is_left()


@scenario
def a_message_in_hand_is_not_published(w: World) -> None:
    assert w.begin("a") == (V.UNKNOWN, "", 0, 0, 0, ())
    ask = ask_for("a", "k", "L", 1)
    assert w.protocol.join(ask, message("a", "<a>"), "<a>", in_hand=True).verdict is V.LEAD
    assert w.queued() == []
    run(w, "a")
    w.nothing_is_left()


@scenario
def only_its_own_execution_settles_a_run(w: World) -> None:
    w.ask("a")
    assert w.protocol.done("a", "").verdict is V.LOST, "it has not begun"
    assert w.protocol.give_up("a", "by-a").verdict is V.LOST
    w.begin("a")
    for settle in (w.protocol.done, w.protocol.give_up, w.protocol.returned):
        assert settle("a", "by-another").verdict is V.LOST
    assert w.protocol.done("a", "").verdict is V.DONE, "who saw its end from outside"
    assert w.done("a").verdict is V.LOST
    w.nothing_is_left()


@scenario
def a_begin_whose_answer_was_lost_is_answered_again(w: World) -> None:
    w.ask("a")
    w.ask("b")
    assert followers(w, "a") == ["b"]
    assert w.begin("a", "another") == (V.RUNNING, "a", 0, 0, 0, ())
    assert w.begin("a").attempt == 1
    assert followers(w, "a") == ["b"]
    w.sleep(LEASE_S)
    assert w.begin("a", "another").attempt == 2, "its lease is over"
    assert w.done("a").verdict is V.LOST
    w.done("a", "another")
    w.nothing_is_left()


# -- I21, I27: lanes


@scenario
def a_lane_is_handed_on_and_kept(w: World) -> None:
    w.ask("a", "k1")
    w.ask("b", "k2")
    w.ask("c", "k3")
    w.begin("a")
    assert w.take("q1")[0] == "a"
    assert w.take("q1")[0] == "b"
    assert w.begin("b") == (V.PARKED, "a", 0, 0, 0, ())
    w.sleep(1)
    assert w.begin("b").verdict is V.PARKED, "a copy"
    w.sleep(1)
    assert w.done("a") == (V.DONE, "b", "")
    assert w.state("b") == "granted"
    assert w.queued() == ["<b>.1", "<c>"], "at the head"
    assert w.begin("c") == (V.PARKED, "b", 0, 0, 0, ()), "one who comes just now does not pass"
    w.sleep(1)
    begun = w.begin("b")
    assert (begun.verdict, begun.lane_wait_s) == (V.RUN, 3)
    assert w.begin("b", "another").verdict is V.RUNNING
    assert w.again("b").verdict is V.WAITING
    assert w.look().lanes == {"L": "c"}
    run(w, "c")
    begun = w.begin("b")
    assert (begun.attempt, begun.lane_wait_s) == (2, 0)
    w.done("b")
    w.nothing_is_left()
    assert w.protocol.counts()["parked"] == 3
    assert w.protocol.counts()["granted"] == 2


@scenario
def runs_without_a_lane_overlap(w: World) -> None:
    w.ask("a", "k1", "")
    w.ask("b", "k2", "")
    assert w.begin("a").verdict is w.begin("b").verdict is V.RUN
    assert w.look().lanes == {}
    assert w.renew("a", lane="")
    w.client.flushdb()
    assert w.renew("a", lane="")
    assert w.look().lanes == {}
    assert w.done("a") == (V.DONE, "", "")
    assert w.done("b").verdict is V.LOST
    w.nothing_is_left()


@scenario
def the_most_urgent_gets_the_lane_and_then_the_oldest(w: World) -> None:
    for id_, rank in (("h", 1), ("z", 1), ("y", 1), ("x", 0)):
        w.ask(id_, id_, rank=rank)
        w.begin(id_)
    w.ask("other", "other", "La")
    w.begin("other")
    for id_, following in (("h", "x"), ("x", "z"), ("z", "y"), ("y", "")):
        assert w.begin(id_).verdict in {V.RUN, V.RUNNING}
        assert w.done(id_).other == following
    assert w.done("other").other == ""
    w.nothing_is_left()


@scenario
def who_does_not_come_for_the_lane_loses_it_to_the_next(w: World) -> None:
    for id_ in "abc":
        w.ask(id_, id_)
        w.begin(id_)
    w.sleep(LEASE_S - 1)
    assert w.done("a").other == "b"
    w.sleep(GRANT_S - 1)
    assert w.begin("c").verdict is V.PARKED
    w.sleep(1)
    assert w.protocol.repair(9)[:4] == (1, 0, 0, 0)
    assert (w.state("b"), w.state("c")) == ("pending", "granted")
    assert w.queued() == ["<c>.1", "<b>.1", "<a>", "<b>", "<c>"]
    assert w.begin("b") == (V.PARKED, "c", 0, 0, 0, ())
    run(w, "c", "b")
    w.nothing_is_left()


@scenario
def who_begins_takes_a_lane_that_was_granted_in_vain(w: World) -> None:
    for id_ in "abc":
        w.ask(id_, id_)
    w.begin("a")
    w.begin("b")
    w.done("a")
    w.sleep(GRANT_S)
    assert w.begin("c").verdict is V.RUN
    assert w.begin("b") == (V.PARKED, "c", 0, 0, 0, ())
    assert w.done("c").other == "b"
    run(w, "b")
    w.nothing_is_left()


@scenario
def a_granted_message_that_was_lost_is_published_again(w: World) -> None:
    for id_ in "ab":
        w.ask(id_, id_)
        w.begin(id_)
    w.done("a")
    w.client.delete("q1")
    w.sleep(GRANT_S)
    assert w.protocol.repair(9)[:4] == (1, 0, 1, 0)
    assert w.queued() == ["<b>.2"]
    run(w, "b")
    assert w.begin("b").verdict is V.SETTLED
    w.nothing_is_left()


# -- I22: leaders that are given up


@scenario
def the_first_follower_inherits(w: World) -> None:
    w.ask("older", "k0")
    w.ask("a")
    for id_ in "zyx":
        w.ask(id_)
    w.sleep(1)
    assert w.protocol.give_up("a") == (V.HEIR, "z", "payload of z")
    assert w.begin("a").verdict is V.SETTLED, "its own message comes late"
    assert w.begin("z").verdict is V.HEIR
    assert w.ask("b") == (V.FOLLOW, "z", False), "it is open"
    assert w.ask("old", "k0") == (V.FOLLOW, "older", False), "and no barrier"
    assert w.ask("z", silent=True).verdict is V.VACANT
    assert w.state("z") == "heir"
    assert w.ask("z") == (V.LEAD, "z", False)
    assert w.ask("z") == (V.LEAD, "z", False)
    assert w.queued() == ["<older>", "<a>", "<z>"]
    w.sleep(1)
    begun = w.begin("z")
    assert ([f.id for f in begun.followers], begun.attempt, begun.asked_s_ago) == (["y", "x", "b"], 1, 2)
    w.done("z")
    assert w.begin("z").verdict is V.SETTLED, "it may have led before, and been copied"
    run(w, "older")
    w.nothing_is_left()
    assert w.protocol.counts()["inherited"] == 1


@scenario
def a_follower_is_given_up(w: World) -> None:
    w.ask("a")
    w.ask("b")
    w.ask("c")
    assert w.protocol.give_up("b") == (V.GONE, "", "")
    assert w.protocol.give_up("b") == (V.LOST, "", "")
    assert followers(w, "a") == ["c"]
    w.done("a")
    w.nothing_is_left()


@scenario
def nobody_inherits_from_who_has_no_followers(w: World) -> None:
    w.ask("a")
    assert w.protocol.give_up("a") == (V.GONE, "", "")
    w.nothing_is_left()


@scenario
def a_run_given_up_hands_its_lane_on(w: World) -> None:
    w.ask("a", "k1")
    w.ask("f", "k1")
    w.ask("b", "k2")
    w.begin("a")
    w.begin("b")
    assert w.protocol.give_up("a", "by-a").other == "f"
    assert w.look().lanes == {"L": "b"}
    w.ask("f", "k1")
    assert w.begin("f") == (V.PARKED, "b", 0, 0, 0, ())
    run(w, "b", "f")
    w.nothing_is_left()


@scenario
def who_is_parked_and_given_up_gets_no_lane(w: World) -> None:
    for id_ in "abc":
        w.ask(id_, id_)
        w.begin(id_)
    assert w.protocol.give_up("b").verdict is V.GONE
    assert w.look().parked_on("L") == ["c"]
    assert w.done("a").other == "c"
    run(w, "c")
    w.nothing_is_left()


@scenario
def followers_of_who_is_given_up_go_to_the_open_run(w: World) -> None:
    w.ask("a", rank=0)
    w.ask("f")
    w.begin("a")
    w.ask("o", rank=2)
    assert w.protocol.give_up("a", "by-a") == (V.GONE, "", "")
    assert w.queued("q0") == ["<a>", "<o>.1"], "it is as urgent as they were"
    assert followers(w, "o") == ["f"]
    w.done("o")
    w.nothing_is_left()


@scenario
def who_had_no_followers_hurries_nobody(w: World) -> None:
    w.ask("a", rank=0)
    w.begin("a")
    w.ask("o", rank=2)
    assert w.protocol.give_up("a", "by-a") == (V.GONE, "", "")
    assert w.queued("q2") == ["<o>"]
    assert w.look().runs["o"]["rank"] == 2
    run(w, "o")
    w.nothing_is_left()


# -- runs that wait for another beginning


@scenario
def a_retry_leads_again(w: World) -> None:
    w.ask("a", "k1")
    w.ask("f", "k1")
    w.ask("b", "k2")
    w.begin("a")
    w.begin("b")
    assert w.again("a", due_in_s=60) == (V.WAITING, "a", "")
    assert w.look().lanes == {"L": "b"}, "others need not wait for it"
    assert w.queued() == ["<b>.1", "<a>", "<b>", "<a again>"]
    assert w.ask("g", "k1") == (V.FOLLOW, "a", False)
    assert w.ask("h", "k1", rank=0) == (V.FOLLOW, "a", True)
    assert w.queued("q0") == ["<a again>.1"]
    run(w, "b")
    w.client.delete("q0", "q1")
    w.sleep(60 + LOOK_S - 1)
    assert w.protocol.repair(9)[:4] == (0, 0, 0, 0)
    w.sleep(1)
    assert w.protocol.repair(9)[:4] == (1, 0, 1, 0)
    assert w.queued("q0") == ["<a again>.2"]
    begun = w.begin("a")
    assert (begun.attempt, [f.id for f in begun.followers]) == (2, ["f", "g", "h"])
    w.done("a")
    w.nothing_is_left()


@scenario
def a_retry_folds_into_the_run_that_leads_meanwhile(w: World) -> None:
    w.ask("a", "k1", rank=0)
    w.ask("f", "k1", rank=0)
    w.ask("b", "k2")
    w.begin("a")
    w.begin("b")
    w.ask("o", "k1", rank=2)
    assert w.again("a") == (V.WAITING, "o", "")
    assert w.look().lanes == {"L": "b"}
    assert w.queued("q0") == ["<a>", "<o>.1"], "as urgent as it was; its new message is not published"
    assert w.begin("a") == (V.FOLLOW, "o", 0, 0, 0, ())
    assert w.ask("a", "k1") == (V.FOLLOW, "o", False)
    run(w, "b")
    assert followers(w, "o") == ["a", "f"]
    w.done("o")
    assert w.begin("a").verdict is V.SETTLED
    w.nothing_is_left()


@scenario
def a_message_that_was_returned_begins_again(w: World) -> None:
    w.ask("a")
    w.begin("a")
    w.ask("g", silent=True)
    assert w.protocol.returned("a", "by-a") == (V.WAITING, "a", "")
    assert w.queued() == ["<a>"], "the broker puts it back itself"
    assert w.state("a") == "pending"
    assert w.ask("f") == (V.FOLLOW, "a", False)
    assert followers(w, "a", "another") == ["f"]
    assert w.done("a").verdict is V.LOST
    w.done("a", "another")
    assert w.begin("a").verdict is V.UNKNOWN, "there was no copy of it"
    w.nothing_is_left()


# -- I24: urgent requests


@scenario
def an_urgent_request_lifts_a_pending_run(w: World) -> None:
    w.ask("a", rank=2)
    assert w.ask("b", rank=2) == (V.FOLLOW, "a", False)
    assert w.ask("c", rank=1) == (V.FOLLOW, "a", True)
    assert w.ask("d", rank=0) == (V.FOLLOW, "a", True)
    assert (w.queued("q0"), w.queued("q1"), w.queued("q2")) == (["<a>.2"], ["<a>.1"], ["<a>"])
    assert w.look().open_ranks == {"a": 0}, "who is as urgent now folds in quickly"
    run(w, "a")
    assert w.begin("a").verdict is V.SETTLED, "two copies are still to come"
    assert w.protocol.counts()["lifted"] == 2
    w.nothing_is_left()


@scenario
def an_urgent_request_lifts_a_parked_run(w: World) -> None:
    for id_, rank in (("h", 1), ("z", 1), ("y", 2)):
        w.ask(id_, id_, rank=rank)
        w.begin(id_)
    assert w.ask("u", "y", rank=0).lifted
    assert w.queued("q0") == [], "it has no message until it has the lane"
    assert w.look().parked_on("L") == ["y", "z"]
    assert w.done("h").other == "y"
    assert w.queued("q0") == ["<y>.1"]
    run(w, "y", "z")
    assert w.begin("y").verdict is V.UNKNOWN
    w.nothing_is_left()


@scenario
def an_urgent_request_lifts_a_granted_run(w: World) -> None:
    for id_ in "hz":
        w.ask(id_, id_, rank=2)
        w.begin(id_)
    w.done("h")
    assert w.ask("u", "z", rank=0).lifted
    assert w.queued("q0") == ["<z>.2"]
    run(w, "z")
    assert w.begin("z").verdict is V.SETTLED
    w.nothing_is_left()


@scenario
def an_urgent_request_lifts_an_heir(w: World) -> None:
    w.ask("a", rank=2)
    w.ask("b", rank=2)
    w.protocol.give_up("a")
    assert w.ask("u", rank=0) == (V.FOLLOW, "b", True)
    assert w.queued("q0") == []
    w.ask("b", rank=2)
    assert (w.queued("q0"), w.queued("q2")) == (["<b>"], ["<a>"])
    run(w, "b")
    w.nothing_is_left()


# -- deaths


@scenario
def a_run_whose_lease_is_over_begins_again(w: World) -> None:
    w.ask("a", "k1")
    w.ask("f", "k1")
    w.ask("b", "k2")
    w.sleep(3)
    w.begin("a")
    w.begin("b")
    w.sleep(LEASE_S - 1)
    assert w.protocol.repair(9)[:4] == (0, 0, 0, 0)
    w.sleep(1)
    assert w.protocol.repair(9)[:4] == (2, 1, 0, 0)
    assert w.look().lanes == {"L": "b"}
    assert w.state("b") == "granted", "not taken from it again at once, though its look was due as well"
    assert w.queued() == ["<b>.1", "<a>", "<b>", "<a>.1"]
    assert w.ask("g", "k1") == (V.FOLLOW, "a", False)
    assert w.done("a").verdict is V.LOST
    run(w, "b")
    begun = w.begin("a")
    assert (begun.attempt, [f.id for f in begun.followers]) == (2, ["f", "g"])
    w.done("a")
    assert w.begin("a").verdict is V.SETTLED, "the broker hands out the dead worker's message, too"
    w.nothing_is_left()


@scenario
def a_run_that_gives_signs_of_life_lives(w: World) -> None:
    w.ask("a")
    w.begin("a")
    w.sleep(LEASE_S - 1)
    assert w.renew("a")
    assert not w.renew("a", by="another")
    w.sleep(1)
    assert w.protocol.repair(9)[:4] == (0, 0, 0, 0)
    assert w.begin("a", "another").verdict is V.RUNNING
    w.sleep(LEASE_S - 1)
    assert w.protocol.repair(9)[:4] == (1, 1, 0, 0)
    assert not w.renew("a"), "it waits for another beginning"
    run(w, "a")
    w.nothing_is_left()


@scenario
def who_is_parked_gets_the_lane_of_the_dead_when_they_are_known_to_be(w: World) -> None:
    w.ask("a", "k1")
    w.ask("b", "k2")
    w.begin("a")
    w.begin("b")
    w.sleep(1)
    w.renew("a")
    w.sleep(LEASE_S)
    assert w.protocol.repair(1)[:4] == (1, 1, 0, 0), "b, who went unseen for longer"
    assert not w.renew("a"), "too late: the lane is another's"
    assert w.look().lanes == {"L": "b"}
    run(w, "b", "a")
    w.nothing_is_left()


@scenario
def the_dead_are_looked_at_once(w: World) -> None:
    w.ask("a", "k1")
    w.begin("a")
    w.ask("b", "k2")
    w.begin("b")
    w.ask("o", "k1")
    w.client.zadd("{stoker}:due", {"b": w.now})
    w.sleep(LEASE_S)
    assert w.protocol.repair(9)[:4] == (3, 1, 0, 0), "a, through b, folds into o"
    assert w.look().lanes == {"L": "b"}
    run(w, "b")
    assert followers(w, "o") == ["a"]
    w.done("o")
    w.nothing_is_left()


@scenario
def who_begins_takes_the_lane_of_the_dead(w: World) -> None:
    w.ask("a", "k1")
    w.begin("a")
    for id_ in ("third", "b"):
        w.ask(id_, id_)
    w.begin("third")
    w.sleep(LEASE_S)
    assert w.begin("b").verdict is V.RUN
    assert w.look().lanes == {"L": "b"}, "not the third's who was parked"
    assert w.state("a") == "pending"
    assert w.queued()[-1] == "<a>.1"
    assert w.begin("a") == (V.PARKED, "b", 0, 0, 0, ())
    assert w.done("b").other == "a", "asked for before the third"
    run(w, "a")
    assert w.begin("a").verdict is V.SETTLED
    run(w, "third")
    w.nothing_is_left()


@scenario
def the_dead_fold_into_who_takes_their_lane(w: World) -> None:
    w.ask("a", rank=0)
    w.ask("f", rank=0)
    w.begin("a")
    w.ask("o", rank=2)
    assert w.begin("o").verdict is V.PARKED
    w.sleep(LEASE_S)
    assert followers(w, "o") == ["a", "f"]
    raw = w.look()
    assert (raw.parked, raw.lanes, raw.runs["o"]["rank"]) == ([], {"L": "o"}, 0)
    w.done("o")
    assert w.begin("a").verdict is V.SETTLED
    w.nothing_is_left()


@scenario
def who_executes_for_hours_may_be_handed_out_twice(w: World) -> None:
    w.ask("a")
    w.begin("a")
    for _ in range(2):
        w.sleep(HOUR_S / 2)
        w.renew("a")
    w.done("a")
    assert w.begin("a").verdict is V.UNKNOWN
    w.ask("b")
    w.begin("b")
    w.sleep(HOUR_S + 1)
    w.renew("b")
    w.done("b")
    w.sleep(2 * HOUR_S - 1)
    w.protocol.repair(9)
    assert w.begin("b").verdict is V.SETTLED
    w.sleep(1)
    w.protocol.repair(9)
    assert w.look().settled == {}
    w.nothing_is_left()


# -- losses


@scenario
def a_lost_message_is_published_again_ever_more_rarely(w: World) -> None:
    w.ask("a")
    w.sleep(LOOK_S)
    assert w.protocol.repair(9)[:4] == (1, 0, 0, 0), "it is in its queue"
    w.client.delete("q1")
    for copy, pause_s in enumerate([LOOK_S, 2 * LOOK_S, 4 * LOOK_S], 1):
        w.sleep(pause_s - 1)
        assert w.protocol.repair(9)[:4] == (0, 0, 0, 0)
        w.sleep(1)
        assert w.protocol.repair(9)[:4] == (1, 0, 1, 0)
        assert w.queued() == [f"<a>.{copy}"]
        w.take("q1")
    run(w, "a")
    assert w.begin("a").verdict is V.SETTLED
    w.nothing_is_left()


@scenario
def copies_are_spaced_by_a_quarter_of_an_hour_at_most(w: World) -> None:
    w.ask("a")
    w.client.delete("q1")
    for copy in range(1, 9):
        w.sleep(LOOK_S * 64)
        assert w.protocol.repair(9).republished == 1
        assert w.take("q1") == ("a", f"<a>.{copy}")
    run(w, "a")
    w.nothing_is_left()


@scenario
def a_message_that_a_worker_has_just_taken_is_not_lost(w: World) -> None:
    w.ask("a")
    w.sleep(LOOK_S - 1)
    w.take("q1")
    w.sleep(LOOK_S - 1)
    assert w.protocol.repair(9)[:4] == (1, 0, 0, 0)
    w.sleep(LOOK_S)
    assert w.protocol.repair(9)[:4] == (1, 0, 1, 0)
    w.client.delete(HELD)
    run(w, "a")
    w.nothing_is_left()


@scenario
def in_a_deep_queue_nothing_is_looked_for(w: World) -> None:
    w.ask("a")
    w.client.delete("q1")
    w.client.rpush("q1", *["x"] * 20_001)
    w.sleep(LOOK_S)
    assert w.protocol.repair(9)[:4] == (1, 0, 0, 0)
    w.client.rpop("q1")
    w.sleep(LOOK_S)
    assert w.protocol.repair(9)[:4] == (1, 0, 1, 0)
    w.client.delete("q1")
    run(w, "a")
    w.nothing_is_left()


@scenario
def an_heir_that_nobody_published_is_named_by_repair(w: World) -> None:
    w.ask("a")
    w.ask("b")
    w.protocol.give_up("a")
    for _ in range(2):
        w.sleep(LOOK_S - 1)
        assert w.protocol.repair(9) == (0, 0, 0, 0, ())
        w.sleep(1)
        assert w.protocol.repair(9) == (1, 0, 0, 0, (("b", "payload of b"),))
    w.ask("b")
    run(w, "b")
    w.nothing_is_left()


@scenario
def repair_looks_at_no_more_than_it_may_and_the_longest_unseen_first(w: World) -> None:
    w.ask("b", "k2", "M")
    w.sleep(1)
    w.ask("a", "k1")
    w.client.delete("q1")
    w.sleep(LOOK_S)
    assert w.protocol.repair(1)[:4] == (1, 0, 1, 0)
    assert w.queued() == ["<b>.1"]
    run(w, "a", "b")
    w.nothing_is_left()


# -- the truth knows better


@scenario
def who_is_behind_a_stranger_waits_for_its_lease(w: World) -> None:
    w.ask("a", "k1")
    w.ask("b", "k2")
    w.begin("a")
    w.begin("b")
    assert w.protocol.behind("a", "by-a", "x", 7) == (V.WAITING, "a", "")
    raw = w.look()
    assert (raw.lanes, raw.parked_on("L"), raw.messages.keys()) == ({"L": "x"}, ["a", "b"], {"a", "b"})
    assert w.ask("f", "k1") == (V.FOLLOW, "a", False)
    assert w.begin("b") == (V.PARKED, "x", 0, 0, 0, ())
    w.sleep(7)
    assert w.protocol.repair(9)[:4] == (1, 1, 0, 0)
    assert w.look().lanes == {"L": "a"}
    assert followers(w, "a") == ["f"]
    w.done("a")
    run(w, "b")
    w.nothing_is_left()


@scenario
def who_is_behind_a_stranger_may_take_the_lane_when_its_lease_is_over(w: World) -> None:
    w.ask("a", "k1")
    w.begin("a")
    w.protocol.behind("a", "by-a", "x", 7)
    w.ask("b", "k2")
    w.sleep(7)
    assert w.begin("b").verdict is V.RUN
    assert "x" not in w.look().runs, "it cannot wait: there is no message of it"
    assert w.done("b").other == "a"
    run(w, "a")
    w.nothing_is_left()


@scenario
def a_stranger_makes_itself_known(w: World) -> None:
    w.ask("a", "k1")
    w.begin("a")
    w.protocol.behind("a", "by-a", "x", 3)
    assert w.renew("x")
    assert not w.renew("x", by="another")
    w.sleep(LEASE_S - 1)
    assert w.protocol.repair(9).died == 0
    assert w.begin("a") == (V.PARKED, "x", 0, 0, 0, ())
    assert w.done("x") == (V.DONE, "a", "")
    run(w, "a")
    w.nothing_is_left()


@scenario
def a_stranger_ends_without_having_made_itself_known(w: World) -> None:
    w.ask("a", "k1")
    w.begin("a")
    w.protocol.behind("a", "by-a", "x", 60)
    assert w.done("x") == (V.DONE, "a", "")
    w.begin("a")
    w.protocol.behind("a", "by-a", "y", 60)
    assert w.protocol.give_up("y", "by-y") == (V.GONE, "", "")
    assert w.look().lanes == {"L": "a"}
    run(w, "a")
    w.nothing_is_left()


@scenario
def who_is_behind_folds_into_the_run_that_leads_meanwhile(w: World) -> None:
    w.ask("a", rank=0)
    w.ask("f")
    w.begin("a")
    w.ask("o")
    assert w.protocol.behind("a", "by-a", "x", 7) == (V.WAITING, "o", "")
    assert w.look().parked_on("L") == []
    w.done("x")
    assert followers(w, "o") == ["a", "f"]
    w.done("o")
    w.nothing_is_left()
    counts = w.protocol.counts()
    assert (counts["led"], counts["folded"]) == (2, 1), "as often as it was asked for"


@scenario
def who_is_behind_a_pending_run_keeps_the_lane_for_it(w: World) -> None:
    w.ask("a", "k1")
    w.ask("h", "k2")
    w.ask("g", "k2")
    w.begin("a")
    assert w.protocol.behind("a", "by-a", "h", 7) == (V.WAITING, "a", "")
    assert w.state("h") == "pending"
    w.ask("c", "k3")
    assert w.begin("c") == (V.PARKED, "h", 0, 0, 0, ())
    assert followers(w, "h") == ["g"]
    assert w.done("h").other == "a"
    run(w, "a", "c")
    w.nothing_is_left()


@scenario
def a_lane_kept_in_vain_for_a_pending_run_is_handed_on(w: World) -> None:
    w.ask("a", "k1")
    w.ask("h", "k2")
    w.begin("a")
    w.protocol.behind("a", "by-a", "h", 3)
    w.sleep(3)
    assert w.protocol.repair(9) == (1, 0, 0, 0, ()), "its message is in its queue"
    w.sleep(LOOK_S - 4)
    assert w.protocol.repair(9) == (0, 0, 0, 0, ())
    w.sleep(1)
    assert w.protocol.repair(9) == (1, 0, 0, 1, ())
    assert w.look().lanes == {"L": "a"}
    assert w.look().due["a"] == w.now + GRANT_S * 1000
    w.sleep(GRANT_S)
    run(w, "h", "a")
    w.nothing_is_left()


@scenario
def a_parked_run_is_looked_after_while_its_lane_is_taken(w: World) -> None:
    for id_ in "ab":
        w.ask(id_, id_)
        w.begin(id_)
    w.sleep(LEASE_S - 1)
    w.renew("a")
    w.sleep(1)
    assert w.protocol.repair(9) == (1, 0, 0, 0, ())
    assert w.protocol.repair(9) == (0, 0, 0, 0, ())
    assert w.state("b") == "parked"
    w.done("a")
    run(w, "b")
    w.nothing_is_left()


@scenario
def the_truth_shortens_no_lease(w: World) -> None:
    w.ask("a", "k1")
    w.ask("h", "k2", "M")
    w.begin("a")
    w.begin("h")
    assert w.protocol.behind("a", "by-a", "h", 3).verdict is V.WAITING
    w.sleep(4)
    assert w.begin("h", "another").verdict is V.RUNNING
    assert w.protocol.repair(9) == (0, 0, 0, 0, ())
    assert w.done("h").verdict is V.DONE
    w.client.flushdb()


@scenario
def who_was_taken_for_dead_and_lives_ends_by_itself(w: World) -> None:
    w.ask("x")
    w.begin("x")
    w.ask("o")
    w.sleep(LEASE_S)
    assert followers(w, "o") == ["x"], "dead for Redis"
    assert w.protocol.behind("o", "by-o", "x", 7).verdict is V.WAITING
    assert w.done("x") == (V.DONE, "o", ""), "and alive in truth"
    assert followers(w, "o") == []
    w.done("o")
    w.nothing_is_left()


@scenario
def who_was_taken_for_dead_and_lives_is_given_up(w: World) -> None:
    w.ask("x")
    w.begin("x")
    w.ask("o")
    w.sleep(LEASE_S)
    w.begin("o")
    w.protocol.behind("o", "by-o", "x", 7)
    assert w.protocol.give_up("x", "by-x") == (V.GONE, "", "")
    assert followers(w, "o") == []
    w.done("o")
    w.nothing_is_left()


@scenario
def who_was_taken_for_dead_inherits_and_keeps_its_lane(w: World) -> None:
    w.ask("x")
    w.begin("x")
    w.ask("o")
    w.sleep(LEASE_S)
    w.begin("o")
    w.protocol.behind("o", "by-o", "x", 7)
    assert w.protocol.give_up("o") == (V.HEIR, "x", "payload of x")
    w.ask("c", "k3")
    assert w.begin("c") == (V.PARKED, "x", 0, 0, 0, ())
    w.ask("x")
    assert w.begin("x").verdict is V.RUN
    assert w.done("x").other == "c"
    run(w, "c")
    w.nothing_is_left()


# -- I23: barriers


@scenario
def nothing_folds_across_a_barrier(w: World) -> None:
    w.ask("a1", "k")
    w.ask("s", "stop", barrier=True)
    w.ask("b", "kb", "M")
    assert w.ask("a2") == (V.LEAD, "a2", False)
    assert w.ask("a3") == (V.FOLLOW, "a2", False)
    assert w.ask("b2", "kb", "M") == (V.FOLLOW, "b", False), "on another lane it is no barrier"
    run(w, "s")
    assert w.ask("a4") == (V.FOLLOW, "a2", False)
    run(w, "a1", "a2", "b")
    w.nothing_is_left()


@scenario
def what_came_before_a_barrier_is_open_when_it_has_ended(w: World) -> None:
    w.ask("a")
    w.ask("s", "stop", barrier=True)
    w.begin("s")
    w.done("s")
    assert w.ask("b") == (V.FOLLOW, "a", False)
    run(w, "a")
    w.nothing_is_left()


@scenario
def of_two_barriers_the_first_stands_when_the_second_is_gone(w: World) -> None:
    w.ask("a")
    w.ask("s1", "stop", barrier=True)
    w.ask("s2", "halt", barrier=True)
    assert w.protocol.give_up("s2").verdict is V.GONE
    assert w.ask("b") == (V.LEAD, "b", False)
    run(w, "a", "s1", "b")
    w.nothing_is_left()


@scenario
def of_two_barriers_the_second_stands_when_the_first_is_gone(w: World) -> None:
    w.ask("s1", "stop", barrier=True)
    w.ask("a")
    w.ask("s2", "halt", barrier=True)
    run(w, "s1")
    assert w.ask("b") == (V.LEAD, "b", False)
    run(w, "a", "s2", "b")
    w.nothing_is_left()


@scenario
def barriers_fold_while_nothing_has_come_behind_them(w: World) -> None:
    w.ask("s1", "stop", barrier=True)
    assert w.ask("s2", "stop", barrier=True) == (V.FOLLOW, "s1", False)
    w.ask("a")
    assert w.ask("s3", "stop", barrier=True) == (V.LEAD, "s3", False), "or a would undo it"
    assert w.ask("b") == (V.LEAD, "b", False)
    assert followers(w, "s1") == ["s2"]
    w.done("s1")
    run(w, "a", "s3", "b")
    w.nothing_is_left()


@scenario
def a_retry_comes_behind_the_barrier_as_well(w: World) -> None:
    w.ask("a")
    w.begin("a")
    w.ask("s1", "stop", barrier=True)
    w.again("a")
    assert w.ask("s2", "stop", barrier=True) == (V.LEAD, "s2", False)
    assert w.ask("b") == (V.LEAD, "b", False), "the retry is not open across the barrier"
    run(w, "a", "s1", "s2", "b")
    w.nothing_is_left()


@scenario
def what_was_lost_comes_behind_the_barrier_as_well(w: World) -> None:
    w.ask("a")
    w.client.delete("q1")
    w.ask("s1", "stop", barrier=True)
    w.sleep(LOOK_S)
    assert w.protocol.repair(9).republished == 1
    assert w.queued() == ["<s1>", "<a>.1"]
    assert w.ask("s2", "stop", barrier=True) == (V.LEAD, "s2", False)
    run(w, "a", "s1", "s2")
    w.nothing_is_left()


@scenario
def an_heir_comes_behind_the_barrier_as_well(w: World) -> None:
    w.ask("a")
    w.ask("f")
    w.ask("s1", "stop", barrier=True)
    w.protocol.give_up("a")
    assert w.ask("b") == (V.LEAD, "b", False), "the heir is not open across the barrier"
    w.ask("f")
    w.ask("s2", "stop", barrier=True)
    assert w.ask("c") == (V.LEAD, "c", False)
    run(w, "f", "s1", "s2", "b", "c")
    w.nothing_is_left()


@scenario
def a_retry_folds_into_nothing_across_a_barrier(w: World) -> None:
    w.ask("a")
    w.ask("f")
    w.begin("a")
    w.ask("s", "stop", barrier=True)
    w.ask("o")
    assert w.again("a") == (V.WAITING, "a", "")
    assert w.ask("p") == (V.FOLLOW, "o", False), "it did not close the other, either"
    w.begin("a")
    assert w.protocol.give_up("a").other == "f"
    assert w.ask("q") == (V.FOLLOW, "o", False)
    w.ask("f")
    run(w, "f", "s")
    assert followers(w, "o") == ["p", "q"]
    w.done("o")
    w.nothing_is_left()


@scenario
def a_barrier_that_begins_again_is_shut(w: World) -> None:
    w.ask("s1", "stop", barrier=True)
    w.begin("s1")
    w.ask("a")
    w.again("s1")
    assert w.ask("s2", "stop", barrier=True) == (V.LEAD, "s2", False), "or a would undo it"
    run(w, "s1", "a", "s2")
    w.nothing_is_left()


@scenario
def the_heir_of_a_barrier_is_one(w: World) -> None:
    w.ask("a")
    w.ask("s1", "stop", barrier=True)
    w.ask("s2", "stop", barrier=True)
    assert w.protocol.give_up("s1").other == "s2"
    assert w.ask("b") == (V.LEAD, "b", False)
    w.ask("s2", "stop", barrier=True)
    run(w, "a", "s2", "b")
    w.nothing_is_left()


@scenario
def the_heir_of_a_barrier_is_shut(w: World) -> None:
    w.ask("s1", "stop", barrier=True)
    w.ask("s2", "stop", barrier=True)
    w.ask("a")
    w.protocol.give_up("s1")
    assert w.ask("s3", "stop", barrier=True) == (V.LEAD, "s3", False), "or a would undo it"
    w.ask("s2", "stop", barrier=True)
    run(w, "a", "s2", "s3")
    w.nothing_is_left()
    assert w.protocol.counts()["led"] == 4, "an heir leads as well"


# -- I25: floods


@scenario
def what_is_executed_in_a_flood_takes_its_lane_again(w: World) -> None:
    w.ask("a", "k1")
    w.begin("a")
    w.client.flushdb()
    assert w.done("a").verdict is w.again("a").verdict is V.LOST
    assert w.protocol.give_up("a", "by-a").verdict is V.LOST
    assert w.renew("a")
    assert w.look().lanes == {"L": "a"}
    w.ask("b", "k2")
    assert w.begin("b") == (V.PARKED, "a", 0, 0, 0, ())
    assert w.ask("c", "k1") == (V.LEAD, "c", False)
    w.sleep(LEASE_S - 1)
    assert w.renew("a")
    w.sleep(1)
    assert w.protocol.repair(9).died == 0
    assert w.done("a") == (V.DONE, "b", "")
    run(w, "b", "c")
    w.nothing_is_left()


@scenario
def a_flood_gives_no_lane_away_twice(w: World) -> None:
    w.ask("a", "k1")
    w.begin("a")
    w.client.flushdb()
    w.ask("b", "k2")
    w.begin("b")
    assert not w.renew("a")
    assert w.look().lanes == {"L": "b"}
    w.done("b")
    assert w.renew("a")
    w.done("a")
    w.nothing_is_left()


@scenario
def what_ended_or_follows_does_not_come_back_by_a_sign_of_life(w: World) -> None:
    w.ask("a")
    w.begin("a")
    w.protocol.give_up("a")
    assert not w.renew("a")
    w.ask("b")
    w.ask("c")
    assert not w.renew("c")
    run(w, "b")
    w.nothing_is_left()


@scenario
def what_is_known_by_a_sign_of_life_alone_cannot_wait(w: World) -> None:
    def flooded() -> None:
        w.client.flushdb()
        assert w.renew("a")
        w.ask("b", "k2")
        assert w.begin("b").verdict is V.PARKED

    flooded()
    assert w.again("a") == (V.LOST, "", "")
    run(w, "b")
    w.nothing_is_left()
    flooded()
    assert w.protocol.returned("a", "by-a") == (V.LOST, "", "")
    run(w, "b")
    w.nothing_is_left()
    flooded()
    w.sleep(LEASE_S)
    assert w.protocol.repair(9)[:4] == (2, 1, 0, 0)
    run(w, "b")
    w.nothing_is_left()
    flooded()
    assert w.protocol.behind("a", "by-a", "x", 7) == (V.LOST, "", "")
    assert w.look().lanes == {"L": "x"}
    w.done("x")
    run(w, "b")
    w.nothing_is_left()
    flooded()
    w.ask("o", "k1")
    assert w.again("a") == (V.LOST, "", ""), "there is nothing to make an heir of it by"
    run(w, "b", "o")
    w.nothing_is_left()
