"""The network part of the demo on a deployment: written down with all its operations, and for real with one round of starts."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo.judgement import held
from demo.network import churn, incident
from demo.network import ground as grounds
from demo.network.figures import network_figures
from demo.network.ground import Ground, find_ground
from demo.network.judgement import judge_networks
from demo.network.play import play_networks
from demo.network.record import NetworkRecording
from tasks.network.sandbox import Way
from tests.support import profiles
from tests.support.deployment import deployed
from tests.support.servers import Servers


@contextmanager
def played(servers: Servers, ground: Ground, monkeypatch: pytest.MonkeyPatch) -> Iterator[NetworkRecording]:
    document = {"profiles": {"echo": profiles.echo()}, "network": json.loads(ground.network.model_dump_json())}
    with ground.opened() as site, deployed(servers, document, placed=site.services) as deployment:
        # Who looks at the nodes is a process beside the stack.
        for name, value in deployment.environment().items():
            monkeypatch.setenv(name, value)
        yield play_networks(deployment.context, ground, site, threading.Event(), deployment.said.append)


def test_no_update_is_lost_where_networks_are_only_written_down(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grounds, "ways", lambda: Way(None, "there is no dnsmasq"))
    monkeypatch.setattr(incident, "ROUNDS", 1)
    monkeypatch.setattr(churn, "OPERATIONS", 80)
    ground = find_ground()
    assert "there is no dnsmasq" in ground.words
    with played(servers, ground, monkeypatch) as run:
        figures = network_figures(run)
    assert run.differences == []
    assert held(judge_networks(figures))
    rounds = 2 * (1 + incident.STARTS)
    assert figures["operations"] == churn.OPERATIONS + 1 + 3 + rounds - incident.STARTS
    assert figures["steps_submitted"] == figures["steps_run"] + sum(figures["folds"].values())
    alone = figures["incident"]["without"]
    assert (alone["steps_run"], alone["dnsmasq_runs"]) == (alone["steps_submitted"], incident.STARTS)
    assert (figures["pings"], figures["leases"]) == (0, 0)


def test_instances_reach_each_other_and_nobody_else(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    ground = find_ground()
    if not ground.is_real:
        pytest.skip(f"networks cannot be made here: {ground.why}")
    for owner, name, value in ((incident, "ROUNDS", 1), (churn, "OPERATIONS", 40), (churn, "NETWORKS", 6)):
        monkeypatch.setattr(owner, name, value)
    with played(servers, ground, monkeypatch) as run:
        figures = network_figures(run)
    assert run.differences == []
    assert held(judge_networks(figures)), judge_networks(figures)
    assert figures["pings"] == incident.STARTS * (incident.STARTS - 1) + 3 * 2
    names = Path("/run/netns")
    assert not names.is_dir() or not any(name.startswith(ground.prefix) for name in os.listdir(names))  # noqa: PTH208
