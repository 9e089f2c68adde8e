"""Bad input to operations and networks, from wherever it comes: one error that says what is right, and nothing has changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from tests.support.commands import call, here, words
from tests.support.deployment import Deployment

NET, PREFIX, FLOATING = "desk", "10.210.0.0/24", "10.99.0.210"
LONG = "x" * 64
NO_ID = "999999999"

EVIL: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown kind": (("op", "submit", "network.refesh", NET), "did you mean 'network.refresh'?"),
    "target of another kind": (("op", "submit", "interface.plug", NET), "<network>/<interface name>"),
    "unknown network": (("op", "submit", "network.refresh", "nowhere"), "network nowhere; expected one that exists"),
    "shell in a target": (("op", "submit", "network.refresh", "$(reboot)"), "a-z, 0-9 and -"),
    "shell in an interface": (("op", "submit", "interface.plug", f"{NET}/;reboot"), "a-z, 0-9 and -"),
    "nothing to delete": (("op", "submit", "network.delete", NET), "stoker network delete"),
    "nothing to unplug": (("op", "submit", "interface.unplug", f"{NET}/web1"), "stoker network unplug"),
    "nothing to plug": (("op", "submit", "interface.plug", f"{NET}/nobody"), "stoker network plug"),
    "queue of the control plane": (
        ("op", "submit", "network.refresh", NET, "--queue", "control"),
        "one of user_waiting, user_facing, background",
    ),
    "needs an unknown one": (("op", "submit", "network.refresh", NET, "--needs", NO_ID), NO_ID),
    "after a negative one": (("op", "submit", "network.refresh", NET, "--after", "-1"), "operation -1 is unknown"),
    "needs what no number is": (("op", "submit", "network.refresh", NET, "--needs", str(2**70)), str(2**70)),
    "endless wait": (("op", "submit", "network.refresh", NET, "--wait", "inf"), "wait out of bounds"),
    "wait that is no number": (("op", "submit", "network.refresh", NET, "--wait", "nan"), "wait out of bounds"),
    "negative wait": (("network", "create", "other", "10.211.0.0/24", "--wait", "-1"), "wait out of bounds"),
    "wait of a day": (("network", "delete", NET, "--wait", "86400"), "0 to 120 s (timeouts.claim_wait_max_s)"),
    "to wait for nobody": (("op", "wait", NO_ID), f"operation {NO_ID} is unknown"),
    "to wait backwards": (("op", "wait", NO_ID, "--timeout", "-1"), "wait out of bounds"),
    "to see nobody": (("op", "show", NO_ID), "stoker op list"),
    "to cancel nobody": (("op", "cancel", NO_ID), "stoker op list"),
    "number zero": (("op", "show", "0"), "should be"),
    "a number that is none": (("op", "cancel", "first"), "as an integer"),
    "a number too great": (("op", "show", str(2**64)), "should be"),
    "unknown state": (("op", "list", "--state", "asleep"), "'waiting', 'queued', 'running'"),
    "unknown kind to list": (("op", "list", "--kind", "network.creat"), "did you mean 'network.create'?"),
    "no limit": (("op", "list", "--limit", "0"), "should be"),
    "a prefix that overlaps": (("network", "create", "other", "10.210.0.128/25"), f"network {NET} ({PREFIX})"),
    "a prefix of a host": (("network", "create", "other", "10.211.0.7/24"), "write 10.211.0.0/24"),
    "a prefix too narrow": (("network", "create", "other", "10.211.0.0/30"), "a length of 8 to 29"),
    "a prefix that is a program": (("network", "create", "other", "10.211.0.0/24;reboot"), "an IPv4 prefix"),
    "a prefix of IPv6": (("network", "create", "other", "fd00::/64"), "an IPv4 prefix"),
    "a prefix that hosts keep": (("network", "create", "other", "127.0.0.0/24"), "which hosts keep"),
    "a name that is taken": (("network", "create", NET, "10.211.0.0/24"), "a name that is free"),
    "a name too long": (("network", "create", LONG, "10.211.0.0/24"), "1 to 63"),
    "a name in capitals": (("network", "create", "Blue", "10.211.0.0/24"), "a-z, 0-9 and -"),
    "a name that leads elsewhere": (("network", "create", "../../etc", "10.211.0.0/24"), "a-z, 0-9 and -"),
    "a node that is almost known": (
        ("network", "create", "other", "10.211.0.0/24", "--node", "node11"),
        "did you mean 'node1'?",
    ),
    "an unknown node": (("network", "plug", NET, "web9", "--node", "nowhere"), "add it to [network.nodes]"),
    "no node": (("network", "plug", NET, "web9"), "--node"),
    "an interface that is plugged": (("network", "plug", NET, "web1", "--node", "node1"), "a name that is free"),
    "an interface's name too long": (("network", "plug", NET, LONG, "--node", "node1"), "1 to 63"),
    "a foreign MAC": (
        ("network", "plug", NET, "web9", "--node", "node3", "--mac", "de:ad:be:ef:00:01"),
        "02:53:74:xx:xx:xx in lower case",
    ),
    "an address outside": (
        ("network", "plug", NET, "web9", "--node", "node3", "--address", "10.9.9.9"),
        "which is outside",
    ),
    "the gateway's address": (
        ("network", "plug", NET, "web9", "--node", "node3", "--address", "10.210.0.1"),
        "the gateway's",
    ),
    "an address that is taken": (
        ("network", "plug", NET, "web9", "--node", "node3", "--address", "10.210.0.2"),
        "web1's",
    ),
    "a namespace elsewhere": (
        ("network", "plug", NET, "web9", "--node", "node3", "--namespace", "../1/ns/net"),
        "rename the namespace",
    ),
    "to plug into nothing": (("network", "plug", "nowhere", "web9", "--node", "node1"), "stoker network create"),
    "to unplug nobody": (("network", "unplug", NET, "web9"), "one that is plugged"),
    "to unplug a program": (("network", "unplug", NET, "`reboot`"), "a-z, 0-9 and -"),
    "to delete what is used": (("network", "delete", NET), "unplug them first"),
    "to delete nothing": (("network", "delete", "nowhere"), "one that exists"),
    "to see nothing": (("network", "show", "nowhere"), "one that exists"),
    "floating for nobody": (("network", "floating", "add", NET, "web9", FLOATING), "one that is plugged"),
    "floating at a node's own": (("network", "floating", "add", NET, "web1", "10.99.0.2"), "that of node node2"),
    "floating inside a network": (("network", "floating", "add", NET, "web1", "10.210.0.9"), f"one of network {NET}"),
    "floating for everybody": (("network", "floating", "add", NET, "web1", "224.0.0.1"), "224.0.0.0/4"),
    "floating nowhere": (("network", "floating", "add", NET, "web1", "10.99.0.300"), "an IPv4 address"),
    "a floating that nobody has": (("network", "floating", "remove", NET, FLOATING), "none of its"),
}


def facts(deployment: Deployment) -> dict[str, Any]:
    """All that a command about networks could have changed."""
    rows = deployment.db.row(
        "select (select count(*) from operations) as operations, (select sum(asked) from operations) as asked,"
        " (select count(*) from runs) as runs, (select count(*) from networks) as networks,"
        " (select count(*) from networks where wanted) as wanted, (select count(*) from network_nodes) as nodes,"
        " (select count(*) from interfaces) as interfaces, (select count(*) from floating_addresses) as floating"
    )
    with redis.Redis.from_url(deployment.settings.redis_client_url) as client:
        queued = {queue: client.llen(queue) for queue in deployment.settings.all_queues if "@" in queue}
    return {"rows": rows, "queued": queued}


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("name", EVIL)
def test_bad_input_says_what_is_right_and_changes_nothing(deployment: Deployment, name: str) -> None:
    before = facts(deployment)
    arguments, said = EVIL[name]
    ended = here(deployment, *arguments)
    assert ended.returncode in {1, 2}, ended
    assert said in words(ended), ended
    assert not ended.stdout
    assert facts(deployment) == before
    assert set(before["queued"].values()) == {0}
    if ended.returncode == 1:
        as_json = json.loads(here(deployment, *arguments, "--json").stdout)
        assert said in as_json["error"]


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize(
    ("task", "args", "said"),
    [
        ("operation.submit", ("network.refesh", NET), "did you mean 'network.refresh'?"),
        ("operation.submit", ("network.refresh", NET, "user_facing", [2**70]), "a number that SQL can hold"),
        ("operation.submit", ("network.refresh", NET, "user_facing", ["first"]), "a list of whole numbers"),
        ("operation.submit", (7, NET), ""),
        ("operation.wait", (999_999_999, 1), "is unknown"),
        ("operation.wait", (2**70, 1), "a number that SQL can hold"),
        ("operation.wait", ("first", 1), ""),
        ("network.create", ("other", "10.210.0.0/24"), NET),
        ("network.create", ("other", 10), ""),
        ("network.create", (7, "10.225.0.0/24"), ""),
        ("network.plug", (NET, "web\0", "node1"), "printable characters"),
        ("network.plug", (NET, "web/1", "node1"), "a-z, 0-9 and -"),
        ("network.plug", (NET, "web9", "node9"), "did you mean"),
        ("network.plug", (NET, ["web9"], "node1"), ""),
    ],
)
def test_a_task_refuses_as_the_command_does(
    deployment: Deployment, task: str, args: tuple[Any, ...], said: str
) -> None:
    before = facts(deployment)["rows"]
    answer = call(deployment, task, *args)
    assert answer["outcome"] == "refused"
    assert said in answer["reason"]
    assert facts(deployment)["rows"] == before
