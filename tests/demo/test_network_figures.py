"""What networks are judged by: steps, folds and waits of a recorded history, and what a node has beside what it should have."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from config.names import OPERATION_QUEUES
from demo.judgement import held
from demo.network import churn
from demo.network.figures import folds, network_figures
from demo.network.judgement import judge_networks
from demo.network.record import Difference, NetworkRecording
from demo.network.truth import different, wanted
from scheduler.core.netview import Floating, Host, NetworkView, Port
from tests.demo.network_sample import DNSMASQ, folded, operation, ran, sample_networks, spoil_guest, spoil_operation


def spoil_dnsmasq(run: NetworkRecording) -> None:
    for one in run.operations:
        one.trail[:] = [entry for entry in one.trail if entry.get("task") != DNSMASQ]


def test_figures_are_the_history_and_what_ran_apart_counts_for_the_comparison_alone() -> None:
    figures = network_figures(sample_networks())
    wanted_figures = {
        "operations": 5,
        "operations_returned_as_they_are": 2,
        "steps_submitted": 3 + 3 + 3 * 2,
        "steps_run": 5,
        "folds": {"on_submit": 1 + 2 * 2, "in_operation": 1, "at_worker": 1},
        "lost_updates": 0,
        "pings_ok": 1,
        "pings": 1,
    }
    assert {name: figures[name] for name in wanted_figures} == wanted_figures
    assert figures["steps_submitted"] == figures["steps_run"] + sum(figures["folds"].values())
    assert figures["wait_ms"] == {"p50": 300.0, "p99": 400.0, "n": 3}
    assert figures["wake_ms"] == {"p50": 2.0, "p99": 2.0, "n": 1}, "who asked after the end did not wait"
    assert figures["by_step"][DNSMASQ] == {"submitted": 5, "run": 2}
    incident = figures["incident"]
    assert incident["with"] == {
        "operations": 2,
        "steps_submitted": 6,
        "steps_run": 4,
        "dnsmasq_runs": 1,
        "slowest_wait_ms": 400.0,
    }
    assert (incident["without"]["steps_run"], incident["without"]["dnsmasq_runs"]) == (4, 2)
    assert incident["ratio"] == 2.5


def test_a_step_that_folded_into_a_run_that_was_retried_folded_once() -> None:
    twice = folded(0, DNSMASQ, 0.0, 1, "on_submit") | {"state": "retried"}
    row = operation(7, "net-00", 0.2, [twice, folded(0, DNSMASQ, 0.1, 1, "on_submit")], plan=[DNSMASQ])
    assert folds(row) == {"on_submit": 1, "in_operation": 0, "at_worker": 0}


def test_the_round_that_is_told_is_the_median_one_and_the_worst_is_judged() -> None:
    run = sample_networks()
    run.seen.starts[:] = [[1, 2], [3, 4], [1, 2]]
    run.seen.apart[:] = [[3, 4], [1, 2], [1, 2]]
    incident = network_figures(run)["incident"]
    assert incident["ratios"] == [2.5, 0.4, 1.0]
    assert incident["ratio"] == 1.0
    assert (incident["dnsmasq_runs_least"], incident["dnsmasq_runs_most"]) == (1, 2)


def test_a_good_run_is_held_and_so_is_one_that_only_wrote_networks_down() -> None:
    assert held(judge_networks(network_figures(sample_networks())))
    run = sample_networks()
    run.seen.guests.clear()
    dry = judge_networks(network_figures(dataclasses.replace(run, driver="dry_run", words="there is no dnsmasq")))
    assert held(dry)
    assert "there is no dnsmasq" in next(check.means for check in dry if check.name == "pings answered")


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("lost updates", lambda run: run.differences.append(Difference("net-00", "node1", "ports", "()", "('if-1',)"))),
        ("operations not succeeded", lambda run: spoil_operation(run, state="failed")),
        ("operations not succeeded", lambda run: spoil_operation(run, state="running", ended_at=None)),
        ("pings answered", lambda run: spoil_guest(run, pings_ok=0)),
        ("names resolved", lambda run: spoil_guest(run, resolved=0)),
        ("leases by DHCP", lambda run: spoil_guest(run, leased="")),
        ("strangers reached", lambda run: spoil_guest(run, strangers_reached=1)),
        ("dnsmasq runs of 2 starts", lambda run: run.operations[0].trail.extend(ran(0, DNSMASQ, s) for s in (7, 8))),
        ("dnsmasq runs of 2 starts", spoil_dnsmasq),
    ],
)
def test_each_violation_is_found_by_its_name(name: str, spoil: object) -> None:
    run = sample_networks()
    assert callable(spoil)
    spoil(run)
    checks = judge_networks(network_figures(run))
    assert [check.name for check in checks if check.must and not check.ok] == [name]


def test_pings_that_nobody_sent_are_no_success_where_there_are_networks() -> None:
    run = sample_networks()
    run.seen.guests.clear()
    assert not held(judge_networks(network_figures(run)))


def test_a_node_differs_in_what_it_has_and_not_in_which_dnsmasq_runs() -> None:
    mac, other = "02:53:74:00:00:01", "02:53:74:00:00:02"
    view = NetworkView(
        name="blue",
        vni=3,
        prefix="10.3.0.0/24",
        node="node1",
        mtu=1450,
        domain="blue.test",
        serves_dhcp=True,
        peers=("10.99.0.3", "10.99.0.2"),
        hosts=(Host(other, "10.3.0.3", "b"), Host(mac, "10.3.0.2", "a")),
        ports=(Port("if-1", "one", mac),),
        floating=(Floating("10.99.0.100", "10.3.0.2"),),
    )
    want = wanted(view)
    assert list(different("blue", "node1", want, want | {"dnsmasq": 4711})) == []
    for what, found in (("dnsmasq", None), ("ports", ["if-1", "if-2"]), ("floating", []), ("peers", ["10.99.0.2"])):
        (difference,) = different("blue", "node1", want, want | {what: found})
        assert (difference.what, difference.node) == (what, "node1")
    assert wanted(dataclasses.replace(view, serves_dhcp=False))["hosts"] == ()


def test_the_churn_is_drawn_alike_every_time_and_is_what_it_says() -> None:
    drawn = churn.parts()
    assert drawn == churn.parts()
    acts = [*churn.creations(), *(act for part in drawn for act in part)]
    assert len(acts) == churn.OPERATIONS
    assert {act.network for act in acts} == {churn.network_name(number) for number in range(churn.NETWORKS)}
    assert {act.queue for act in acts} == set(OPERATION_QUEUES)
    kinds = Counter(act.kind for act in acts)
    assert kinds.keys() == {"create", "delete", "plug", "unplug", "refresh", "floating_add", "floating_remove"}
    assert len({act.name for act in acts if act.kind == "plug"}) == kinds["plug"], "a name is plugged once"


def test_what_a_client_of_the_churn_asks_for_it_may_have() -> None:
    for part in churn.parts():
        plugged: set[tuple[str, str]] = set()
        floating: dict[str, tuple[str, str]] = {}
        deleted: set[str] = set()
        for act in part:
            place = (act.network, act.name)
            assert (act.network in deleted) == (act.kind == "create")
            match act.kind:
                case "create":
                    deleted.discard(act.network)
                case "delete":
                    assert act.network not in dict(plugged)
                    deleted.add(act.network)
                case "plug":
                    plugged.add(place)
                case "unplug":
                    plugged.remove(place)
                    floating = {address: where for address, where in floating.items() if where != place}
                case "floating_add":
                    assert place in plugged
                    assert place not in floating.values()
                    assert act.address not in floating
                    floating[act.address] = place
                case "floating_remove":
                    assert floating.pop(act.address) == place
