"""The command line: JSON for programs, exit codes that tell answers from errors, and bad input that changes nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.commands import Ended, here
from tests.support.deployment import BEATS, Deployment
from tests.support.eventually import eventually
from tests.support.fleet import Fleet

# Commands of their own processes: one that reads, one that acts, one that is refused; the others run here.
APART = ("doctor",)
READING = {
    "status": ("status",),
    "pool status": ("pool", "status"),
    "workers": ("pool", "workers"),
    "workers of a state": ("pool", "workers", "--state", "idle", "--limit", "5"),
    "events": ("events", "--kind", "worker", "--limit", "5"),
    "doctor": ("doctor",),
}
EVIL = {
    "unknown profile": (("pool", "claim", "acme", "desc"), "did you mean 'desk'?"),
    "malformed tenant": (("pool", "claim", "Robert'); drop table workers;--", "desk"), "malformed tenant name"),
    "negative wait": (("pool", "claim", "acme", "desk", "--wait", "-1"), "wait out of bounds"),
    "endless wait": (("pool", "claim", "acme", "desk", "--wait", "inf"), "wait out of bounds"),
    "no number": (("pool", "claim", "acme", "desk", "--wait", "soon"), "as a number"),
    "no such worker": (("pool", "drain", "--worker", "999999"), "no live worker 999999"),
    "no such node": (("pool", "drain", "--node", "nowhere"), "no node 'nowhere'"),
    "no such profile to drain": (("pool", "drain", "nothing"), "no profile 'nothing' is in force"),
    "nothing to drain": (("pool", "drain"), "name exactly one"),
    "two things to drain": (("pool", "drain", "desk", "--node", "x"), "name exactly one"),
    "a limit out of bounds": (("events", "--limit", "0"), "should be"),
}


@pytest.fixture(scope="module")
def read(deployment: Deployment) -> dict[tuple[str, bool], Ended]:
    """What each reading command printed, for programs and for people."""

    def run(name: str, *form: str) -> Ended:
        command = (*READING[name], *form)
        return deployment.cli(*command) if name in APART else here(deployment, *command)

    printed = {
        (name, as_json): run(name, *(["--json"] if as_json else [])) for name in READING for as_json in (True, False)
    }

    def of_all() -> bool:
        """A worker has a second to answer, and one that was busy is asked again."""
        if len(json.loads(printed["status", True].stdout)["celery_workers"]) == 3:
            return True
        printed["status", True] = run("status", "--json")
        return False

    eventually(of_all, "all three answer", within_s=60)
    return printed


@pytest.mark.parametrize("name", READING)
def test_a_reading_command_prints_json_for_programs_and_text_for_people(
    read: dict[tuple[str, bool], Ended], name: str
) -> None:
    machine, person = read[name, True], read[name, False]
    assert (machine.returncode, person.returncode) == (0, 0), machine.stderr + person.stdout + person.stderr
    json.loads(machine.stdout)
    assert person.stdout.strip()
    assert not machine.stderr


def test_status_shows_workers_queues_and_profiles(read: dict[tuple[str, bool], Ended], deployment: Deployment) -> None:
    seen = json.loads(read["status", True].stdout)
    assert {node.split("@")[0] for node in seen["celery_workers"]} == {"control", "spawn", "user"}
    assert set(seen["queues"]) == {"control", "user_waiting", "user_facing", "spawn", "background"}
    assert {row["family"] for row in seen["profiles"]} == set(deployment.settings.profiles)
    assert set(seen["node_queues"]) == set(deployment.settings.network.nodes)
    assert set(seen["node_queues"]["node1"]) == {"user_waiting", "user_facing", "background"}
    assert isinstance(seen["operations"], list)
    assert seen["beat"]["pid"] in {deployment.stack.pids()[name] for name in BEATS}
    assert f"beat {seen['beat']['pid']} on" in read["status", False].stdout
    assert (seen["schedule"]["entries"], seen["schedule"]["off"]) == (3, [])


def test_no_key_of_a_worker_is_printed(read: dict[tuple[str, bool], Ended], deployment: Deployment) -> None:
    printed = "".join(ended.stdout for ended in read.values())
    keys = [row["activation_key"] for row in deployment.db.rows("select activation_key from workers")]
    assert not [key for key in keys if key in printed]


def test_the_life_of_a_claim(deployment: Deployment) -> None:
    def run(*arguments: object) -> tuple[int, dict[str, Any]]:
        ended = here(deployment, "pool", *map(str, arguments), "--json")
        return ended.returncode, json.loads(ended.stdout)

    code, claim = run("claim", "capped", "desk", "--wait", 30)
    assert (code, claim["outcome"]) == (0, "held")
    worker = (claim["worker_id"], claim["epoch"])
    code, miss = run("claim", "capped", "desk")
    assert (code, miss["outcome"], miss["reason"]) == (3, "miss", "tenant_cap")
    assert run("renew", "capped", *worker, "desk") == (0, {"renewed": True})
    assert run("release", "another", *worker) == (3, {"released": False, "became": None})
    assert run("release", "capped", *worker) == (0, {"released": True, "became": "hot_idle"})
    assert run("release", "capped", *worker) == (3, {"released": False, "became": None})
    assert run("renew", "capped", *worker, "desk") == (3, {"renewed": False})


def test_bad_input_changes_nothing_and_says_what_is_right(deployment: Deployment) -> None:
    # Only what a command could have changed: the pool itself goes on living beside this test.
    def facts() -> list[dict[str, Any]]:
        return deployment.db.rows(
            "select 'tenant' as what, to_jsonb(t) - 'turn_at' as row from tenants t where name not like 'celery%%' union all"
            " select 'profile', jsonb_build_object(name, draining) from profiles union all"
            " select 'node', to_jsonb(n) from nodes n order by 1, 2"
        )

    before = facts()
    ended = {name: here(deployment, *command) for name, (command, _) in EVIL.items()}
    assert facts() == before
    for name, (_, said) in EVIL.items():
        shown = ended[name]
        assert shown.returncode in {1, 2}, (name, shown)
        assert said in " ".join(shown.stderr.split()), (name, shown.stderr)
        assert "Traceback" not in shown.stderr


def test_an_error_is_json_too_for_who_asked_for_json(deployment: Deployment) -> None:
    ended = deployment.cli("pool", "claim", "acme", "desc", "--json")
    assert ended.returncode == 1
    answer = json.loads(ended.stdout)
    assert answer["kind"] == "Refused"
    assert "did you mean 'desk'?" in answer["error"]


def test_drain_closes_a_profile_and_undo_opens_it(deployment: Deployment) -> None:
    fleet = Fleet(deployment.db, deployment.settings)
    drained = deployment.cli("pool", "drain", "fast", "--json")
    assert (drained.returncode, json.loads(drained.stdout)["undone"]) == (0, False)
    fleet.tenant("late")
    assert fleet.claim("late", family="fast") == "draining"
    opened = here(deployment, "pool", "drain", "fast", "--undo", "--json")
    assert (opened.returncode, json.loads(opened.stdout)["undone"]) == (0, True)
    assert fleet.claim("late", family="fast") != "draining"
