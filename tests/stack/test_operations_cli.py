"""Operations and networks from the command line, as text and as JSON, and by the names of Celery tasks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scheduler.core.network_plans import Spread, Target, plan_operation
from scheduler.store import operations as store
from tests.support.commands import call, here, words
from tests.support.deployment import Deployment

WAIT = ("--wait", "30")
AS_A_PROCESS = {"network create", "network plug", "network show", "op wait", "op show"}


@pytest.fixture
def held(deployment: Deployment, desk: str) -> int:
    """An operation that is queued and never published: a test decides when it ends."""
    nodes = tuple(deployment.settings.network.nodes)
    plan = plan_operation("network.refresh", Target(desk), Spread(desk, nodes, nodes[0]))

    def write(connection: Any) -> int:
        made = store.submit(connection, "network.refresh", desk, queue="background", rank=9, plan=plan)
        connection.execute("update operations set seen_at = now() + interval '1 h' where id = %s", [made.id])
        return made.id

    return deployment.db.transaction(write)


def test_the_life_of_a_network_as_json(deployment: Deployment) -> None:
    """The first of each kind as a process of its own."""
    started: set[str] = set()

    def run(*arguments: str, code: int = 0) -> Any:
        command = " ".join(arguments[:2])
        is_first = command in AS_A_PROCESS and command not in started
        ended = deployment.cli(*arguments, "--json") if is_first else here(deployment, *arguments, "--json")
        started.add(command)
        assert (ended.returncode, ended.stderr) == (code, ""), ended
        return json.loads(ended.stdout)

    made = run("network", "create", "json", "10.220.0.0/24", "--node", "node2", *WAIT)
    assert (made["state"], made["is_new"], made["error"]) == ("succeeded", True, None)
    one = run("network", "plug", "json", "web1", "--node", "node1", "--namespace", "vm.1", *WAIT)
    assert (one["state"], one["address"]) == ("succeeded", "10.220.0.2")
    two = run("network", "plug", "json", "web2", "--node", "node3", "--address", "10.220.0.9", "--queue", "background")
    assert two["address"] == "10.220.0.9"
    assert "took_s" not in two
    waited = run("op", "wait", str(two["operation"]))
    assert (waited["state"], waited["queue"], waited["target"]) == ("succeeded", "background", "json/web2")
    assert run("network", "floating", "add", "json", "web1", "10.99.0.220", *WAIT)["state"] == "succeeded"
    (seen,) = run("network", "show", "json")
    assert [one["name"] for one in seen["interfaces"]] == ["web1", "web2"]
    assert [(look["node"], look["differences"], look["why"]) for look in seen["seen"]] == [
        ("node1", [], None),
        ("node2", [], None),
        ("node3", [], None),
    ]
    links = ("--needs", str(one["operation"]), "--needs", str(two["operation"]), "--after", str(made["operation"]))
    again = run("op", "submit", "network.refresh", "json", *links, *WAIT)
    assert again["state"] == "succeeded"
    shown = run("op", "show", str(again["operation"]))
    assert (shown["needs"], shown["after"]) == ([one["operation"], two["operation"]], [made["operation"]])
    assert [entry["state"] for entry in shown["trail"]] == ["succeeded"] * 4
    filters = ("--target", "json", "--kind", "interface.plug", "--state", "succeeded", "--limit", "5")
    assert [row["id"] for row in run("op", "list", *filters)] == [two["operation"], one["operation"]]
    assert run("network", "floating", "remove", "json", "10.99.0.220", *WAIT)["state"] == "succeeded"
    for name in ("web1", "web2"):
        assert run("network", "unplug", "json", name, *WAIT)["state"] == "succeeded"
    gone = run("network", "delete", "json", *WAIT)
    assert gone["state"] == "succeeded"
    assert run("op", "cancel", str(gone["operation"]), code=3)["cancelled"] is False


def test_the_life_of_a_network_as_text(deployment: Deployment) -> None:
    def run(*arguments: str) -> str:
        ended = here(deployment, *arguments)
        assert (ended.returncode, ended.stderr) == (0, ""), ended
        return words(ended)

    assert "succeeded in" in run("network", "create", "text", "10.221.0.0/24", *WAIT)
    plugged = run("network", "plug", "text", "web1", "--node", "node2", "--mac", "02:53:74:00:22:10")
    assert "address 10.221.0.2 mac 02:53:74:00:22:10" in plugged
    hint = plugged[plugged.index("stoker op wait") :].split()[1:4]
    assert f"operation {hint[2]} succeeded" in run(*hint)
    assert "succeeded" in run("network", "floating", "add", "text", "web1", "10.99.0.221", *WAIT)
    network = run("network", "show", "text")
    assert "web1 node2 10.221.0.2 10.99.0.221 02:53:74:00:22:10 web1 yes" in network
    assert "on node1: as it should be" in network
    timeline = run("op", "show", hint[2])
    assert "1 update_dnsmasq @ node1" in timeline
    assert "plug_interface @ node2 ran" in timeline
    assert "interface.plug text/web1 succeeded 4/4" in run("op", "list", "--target", "text")
    # With it goes its floating address, from the gateway's node too.
    assert "succeeded" in run("network", "unplug", "text", "web1", *WAIT)
    assert run("network", "show", "text").count("as it should be") == 2
    assert "succeeded" in run("network", "delete", "text", *WAIT)
    assert "text" not in run("network", "show")


def test_what_somebody_did_to_a_node_by_hand_is_shown_and_made_good(deployment: Deployment, desk: str) -> None:
    context = deployment.context
    (row,) = context.networks.show(desk)
    context.network_driver.delete_network("node2", row["vni"], desk)
    (seen,) = json.loads(here(deployment, "network", "show", desk, "--json").stdout)
    missing = {one["what"]: one["missing"] for look in seen["seen"] for one in look["differences"]}
    assert missing["ports"] == [f"if-{seen['interfaces'][0]['id']}"]
    assert missing["bridge"]
    text = words(here(deployment, "network", "show", desk))
    assert "on node2: differs" in text
    assert "- port web1" in text
    assert here(deployment, "op", "submit", "interface.plug", f"{desk}/web1", *WAIT).returncode == 0
    assert "differs" not in words(here(deployment, "network", "show", desk))


def test_exit_codes_tell_not_yet_from_never(deployment: Deployment, desk: str, held: int) -> None:
    submitted = here(
        deployment, "op", "submit", "network.refresh", desk, "--needs", str(held), "--wait", "0.1", "--json"
    )
    answer = json.loads(submitted.stdout)
    waiting = str(answer["operation"])
    assert (submitted.returncode, answer["state"]) == (3, "waiting")
    assert here(deployment, "op", "wait", str(held), "--timeout", "0").returncode == 3
    assert f"needs {held}" in words(here(deployment, "op", "show", waiting))
    assert f"awaited by {waiting}" in words(here(deployment, "op", "show", str(held)))
    assert f"{held} network.refresh {desk} queued 0/" in words(here(deployment, "op", "list", "--state", "queued"))
    cancelled = here(deployment, "op", "cancel", str(held))
    assert (cancelled.returncode, words(cancelled)) == (0, f"operation {held} cancelled")
    assert here(deployment, "op", "wait", str(held)).returncode == 4
    doomed = here(deployment, "op", "wait", waiting)
    assert doomed.returncode == 4
    assert f"needs operation {held}, which cancelled" in words(doomed)


def test_status_tells_of_what_has_not_ended(deployment: Deployment, held: int) -> None:
    try:
        seen = json.loads(here(deployment, "status", "--json").stdout)
        (queued,) = [row for row in seen["operations"] if row["state"] == "queued"]
        assert queued["count"] >= 1
        assert queued["oldest_s"] > 0
        assert "operations that have not ended" in words(here(deployment, "status"))
    finally:
        deployment.context.operations.cancel(held)


def test_a_node_that_was_taken_out_of_the_settings_has_nothing_made_on_it(deployment: Deployment) -> None:
    networks, operations = deployment.context.networks, deployment.context.operations
    networks.create("moved", "10.222.0.0/24")
    networks.plug("moved", "web1", "node1")
    deployment.db.rows("insert into network_nodes values ('moved', 'scrapped')")
    row = operations.wait(operations.submit("network.refresh", "moved").id, 30)
    assert (row["state"], {step["node"] for step in row["plan"]}) == ("succeeded", {"node1"})
    deployment.db.rows("update interfaces set node = 'scrapped' where network = 'moved'")
    ended = here(deployment, "network", "unplug", "moved", "web1")
    assert "got scrapped" in words(ended)
    deployment.db.rows("delete from interfaces where network = 'moved'")
    assert operations.wait(networks.delete("moved").id, 30)["state"] == "succeeded"


def test_a_deletion_that_failed_is_asked_for_once_more(deployment: Deployment) -> None:
    networks, operations = deployment.context.networks, deployment.context.operations
    operations.wait(networks.create("stuck", "10.223.0.0/24").id, 30)
    deployment.db.rows("update networks set wanted = false where name = 'stuck'")
    assert "being deleted" in words(here(deployment, "network", "show", "stuck"))
    assert "stoker network create" in words(here(deployment, "op", "submit", "network.refresh", "stuck"))
    assert here(deployment, "op", "submit", "network.delete", "stuck", *WAIT).returncode == 0
    assert here(deployment, "network", "show", "stuck").returncode == 1


def test_the_same_by_the_names_of_celery_tasks(deployment: Deployment) -> None:
    def wait(submitted: dict[str, Any]) -> dict[str, Any]:
        assert submitted["outcome"] == "ok", submitted
        ended = call(deployment, "operation.wait", submitted["operation"], 30)
        assert ended["state"] == "succeeded", ended
        return ended

    wait(call(deployment, "network.create", "task", "10.224.0.0/24", node="node3"))
    plugged = call(deployment, "network.plug", "task", "web1", "node1", mac="02:53:74:00:22:40")
    assert (plugged["address"], plugged["mac"]) == ("10.224.0.2", "02:53:74:00:22:40")
    wait(plugged)
    wait(call(deployment, "network.floating_add", "task", "web1", "10.99.0.224"))
    (shown,) = call(deployment, "network.show", "task")["networks"]
    assert shown["interfaces"][0]["floating"] == "10.99.0.224"
    refreshed = call(deployment, "operation.submit", "network.refresh", "task", needs=[plugged["operation"]])
    assert wait(refreshed)["needs"] == [plugged["operation"]]
    assert call(deployment, "operation.show", refreshed["operation"])["state"] == "succeeded"
    assert call(deployment, "operation.cancel", refreshed["operation"]) == {"outcome": "ok", "cancelled": False}
    wait(call(deployment, "network.floating_remove", "task", "10.99.0.224"))
    wait(call(deployment, "network.unplug", "task", "web1"))
    wait(call(deployment, "network.delete", "task"))
