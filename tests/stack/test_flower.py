"""What operators read and click in Flower: calls, starts and waits, queues (I34); a revoke that loses nothing (I22)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError
from playwright.sync_api import Error as BrowserError
from playwright.sync_api import HttpCredentials, expect

from config.flower_files import FLOWER_USER
from config.names import CLAIM_TASK, OPERATION_WAIT_TASK, RENEW_TASK, UPDATE_DNSMASQ_STEP
from scheduler.redis.connection import connect
from scheduler.store.operations import Operation
from tasks.services import FLOWER_ADDRESS
from tests.support import profiles
from tests.support.browser import chromium, needs_chromium
from tests.support.commands import call, until_revoked
from tests.support.deployment import BEATS, EXPORTER, Deployment, deployed
from tests.support.eventually import eventually
from tests.support.flower import (
    THREADS,
    WITHIN_S,
    Flower,
    depths,
    flower_of,
    followers,
    inspected,
    nobody_spawns,
    renewals_sent,
    step_of,
    steps_held,
    until_running,
    waiting_claims,
    with_few_threads,
)
from tests.support.ports import free_port
from tests.support.servers import Servers

NODE = "node1"
SENT = {"user_waiting": 7, "user_facing": 5, "background": 11, "user_waiting@node1": 3, "background@node1": 2}
_numbers = itertools.count(1)
expect.set_options(timeout=WITHIN_S * 1000)  # a page's own default does not reach what is expected of it


@pytest.fixture(scope="module")
def watched(servers: Servers) -> Iterator[Deployment]:
    document = {
        "profiles": {
            "echo": profiles.echo(),
            "first": profiles.echo(),
            "later": profiles.echo(),
            # Who claims one waits for as long as it may.
            "never": {"command": ["{python}", "-S", "-c", "raise SystemExit(3)"], "memory": "8Mi"},
        },
        "flower": {"port": free_port(FLOWER_ADDRESS)},
        "network": {"nodes": {NODE: {"address": "10.99.0.1", "namespace": "clicked1"}}},
    }
    with deployed(servers, document, without=(*BEATS, EXPORTER), placed=with_few_threads) as deployment:
        yield deployment
        for name in ("flower", "user", "spawn", "control"):
            log = (deployment.settings.locations.logs / f"{name}.log").read_text()
            assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def flower(watched: Deployment) -> Flower:
    return flower_of(watched, workers=("control", "spawn", "user"))


@pytest.fixture
def network(watched: Deployment) -> str:
    """A network of the test's own."""
    number = next(_numbers)
    operation = watched.context.networks.create(f"blue{number}", f"10.{number}.0.0/24")
    assert state_of(watched, operation) == "succeeded"
    return f"blue{number}"


def state_of(watched: Deployment, operation: Operation) -> str:
    return str(watched.context.operations.wait(operation.id, WITHIN_S)["state"])


def plugs(watched: Deployment, network: str, count: int = 4) -> list[Operation]:
    """Operations whose first step is one for all of them."""
    made = [watched.context.networks.plug(network, f"web{n}", NODE)[0] for n in range(count)]
    leader, *others = map(step_of, made)
    assert followers(watched, leader) == others
    return made


@contextmanager
def threads_taken(watched: Deployment, flower: Flower) -> Iterator[None]:
    """Both threads of the worker that users wait for are busy; at the end of the block a click each ends what they do."""
    waits = waiting_claims(watched, "never")
    yield
    for claim in waits:
        flower.revoke(claim.id, terminate=True)


# --- what is read


def test_calls_are_read_by_their_arguments_and_starts_by_what_they_waited_for(
    watched: Deployment, flower: Flower, network: str
) -> None:
    renewal = watched.context.app.send_task(RENEW_TASK, ["acme", 7, 3, "echo"], queue="user_facing")
    renewal.get(timeout=WITHIN_S)
    with threads_taken(watched, flower):
        leader, *others = plugs(watched, network)
    assert state_of(watched, leader) == "succeeded"
    plain, step = flower.task(renewal.id, "SUCCESS"), flower.task(step_of(leader), "SUCCESS")
    assert plain["args"] == "tenant='acme', worker_id=7, epoch=3, profile='echo'"
    assert (plain["kwargs"], plain["queue"], plain["folded"]) == ("{}", "user_facing", 0)
    assert (step["name"], step["args"]) == (UPDATE_DNSMASQ_STEP, f"network='{network}', node='{NODE}'")
    assert (step["queue"], step["folded"], step["defers"]) == (f"user_waiting@{NODE}", len(others), 0)
    assert step["wait_s"] > 0
    # What comes later in the chain of one that only followed was published by the run that served it.
    last = flower.task(step_of(others[0], position=2), "SUCCESS")
    assert last["args"] == f"network='{network}', node='{NODE}', interface='web1'"
    assert {task["state"] for task in flower.tasks().values()} <= {"SUCCESS", "STARTED", "RECEIVED", "REVOKED"}


def test_a_claims_token_is_not_read_by_what_comes_after_it_in_a_chain(watched: Deployment, flower: Flower) -> None:
    app = watched.context.app
    claim = app.signature(CLAIM_TASK, ("acme", "echo"), {"wait_s": WITHIN_S})
    after = app.signature(OPERATION_WAIT_TASK)
    result = (claim | after).apply_async()
    assert result.get(timeout=WITHIN_S)["outcome"] == "refused", "a claim is no operation"
    held = result.parent.get(timeout=WITHIN_S)
    shown = flower.task(result.id, "SUCCESS")["args"]
    assert shown.startswith("operation={'outcome': 'held'")
    every = "".join(
        flower.page(path) for path in ("/api/tasks?limit=1000", f"/task/{result.id}", f"/task/{result.parent.id}")
    )
    assert held["token"] not in every
    assert call(watched, "pool.release", "acme", held["worker_id"], held["epoch"])


def test_flower_tells_how_many_wait_in_each_queue_and_what_became_of_them(watched: Deployment, flower: Flower) -> None:
    queues = watched.settings.all_queues
    with closing(connect(watched.settings.redis_client_url)) as client, nobody_spawns(watched):
        # Claims fill the threads of those who serve users, and what comes after them waits.
        claims = waiting_claims(watched, "first")
        renewals = renewals_sent(watched, SENT)

        def told_while_nothing_moves() -> tuple[dict[str, int], dict[str, int], dict[str, int]] | None:
            before = depths(client, queues)
            told = flower.lengths(), flower.broker_page()
            return (before, *told) if before["spawn"] and depths(client, queues) == before else None

        told = eventually(told_while_nothing_moves, "spawns that wait, and lengths that stay", within_s=WITHIN_S)
        assert told is not None
        true, by_interface, on_page = told
        assert by_interface == true
        assert on_page == true
        # A full worker holds back nothing, also of what acknowledges early (I35).
        assert {queue: true[queue] for queue in SENT} == SENT
    assert [claim.get(timeout=WITHIN_S)["outcome"] for claim in claims] == ["held"] * THREADS
    for renewal in renewals:
        renewal.get(timeout=WITHIN_S)
    sent = {renewal.id for renewal in renewals} | {claim.id for claim in claims}

    def seen() -> dict[str, Any] | None:
        tasks = flower.tasks()
        return tasks if all(tasks.get(each, {}).get("state") == "SUCCESS" for each in sent) else None

    tasks = eventually(seen, "Flower shows that all have succeeded", within_s=WITHIN_S)
    assert tasks is not None
    assert {tasks[claim.id]["name"] for claim in claims} == {CLAIM_TASK}
    assert "tenant0" in tasks[claims[0].id]["args"]
    none = dict.fromkeys(sorted(queues), 0)
    eventually(lambda: flower.lengths() == none, "nothing waits", within_s=WITHIN_S)


def test_inspect_lists_the_queues_of_workers_that_have_work(watched: Deployment, flower: Flower) -> None:
    renewals = renewals_sent(watched, dict.fromkeys(SENT, 40))
    served = inspected(watched)
    assert served["control"] == {"control"}
    assert served["spawn"] == {"spawn", "background"}
    assert served["user"] == {"user_waiting", "user_facing", *watched.settings.node_queues}
    assert {name: set(queues) for name, queues in flower.workers().items()} == served
    page = flower.page("/workers")
    assert all(f"{name}@" in page for name in served)
    for renewal in renewals:
        renewal.get(timeout=WITHIN_S)


# --- what is clicked


def test_a_leader_revoked_in_its_queue_hands_over_to_those_who_follow(
    watched: Deployment, flower: Flower, network: str
) -> None:
    with threads_taken(watched, flower):
        made = plugs(watched, network)
        revoked = [step_of(made[0]), step_of(made[2])]  # the leader, and one that follows it
        for id_ in revoked:
            flower.revoke(id_)
        until_revoked(watched, *revoked)
    states = [state_of(watched, operation) for operation in made]
    assert states == ["cancelled", "succeeded", "cancelled", "succeeded"]
    heir = flower.task(step_of(made[1]), "SUCCESS")
    assert heir["args"] == f"network='{network}', node='{NODE}'"
    flower.task(revoked[0], "REVOKED")


def test_a_leader_terminated_in_its_thread_serves_its_followers_and_its_own_operation_ends(
    watched: Deployment, flower: Flower, network: str
) -> None:
    with ExitStack() as held:
        with threads_taken(watched, flower):
            made = plugs(watched, network)
            leader = step_of(made[0])
            held.enter_context(steps_held(watched, network, NODE))
        until_running(watched, leader)
        flower.task(leader, "STARTED")
        flower.revoke(leader, terminate=True)
        assert state_of(watched, made[0]) == "cancelled"
    states = [state_of(watched, operation) for operation in made]
    assert states == ["cancelled", *["succeeded"] * 3]
    # One that stood too long at the fence was tried again.
    run = watched.db.row("select served from runs where task_id = %(id)s and state = 'succeeded'", id=leader)
    assert run == {"served": 4}
    flower.task(leader, "SUCCESS")
    with threads_taken(watched, flower):
        """Both of them are there still."""


def test_a_waiting_claim_that_is_terminated_leaves_the_worker_that_comes_to_others(
    watched: Deployment, flower: Flower
) -> None:
    with nobody_spawns(watched):
        ended, waits = waiting_claims(watched, "later")
        eventually(
            lambda: watched.count("later", "spawning") == THREADS, "a worker is on its way for each", within_s=WITHIN_S
        )
        flower.revoke(waits.id)  # not terminated: what runs goes on
        flower.revoke(ended.id, terminate=True)
        assert ended.get(timeout=WITHIN_S)["outcome"] == "miss"
        tickets = watched.db.rows("select tenant from tickets where profile = %(p)s", p=watched.canonical("later"))
        assert tickets == [{"tenant": "tenant1"}]
    held = waits.get(timeout=WITHIN_S)
    assert held["outcome"] == "held"
    # Two workers were asked for, and one of them nobody waits for any more.
    watched.until_idle("later", 1)
    assert watched.count("later", "active", "activating") == 1
    assert call(watched, CLAIM_TASK, "tenant3", "later")["origin"] == "warm"


def test_what_is_revoked_before_it_begins_does_not_begin(watched: Deployment, flower: Flower) -> None:
    with threads_taken(watched, flower):
        revoked = watched.context.app.send_task(
            CLAIM_TASK, ["tenant9", "echo"], {"wait_s": WITHIN_S}, queue="user_waiting"
        )
        flower.revoke(revoked.id, terminate=True)
        until_revoked(watched, revoked.id)
    with pytest.raises(TaskRevokedError):
        revoked.get(timeout=WITHIN_S)
    assert watched.db.rows("select 1 from tickets where tenant = 'tenant9'") == []
    flower.task(revoked.id, "REVOKED")


@needs_chromium
def test_in_a_browser_a_running_step_is_found_by_its_arguments_and_terminated(
    watched: Deployment, flower: Flower, network: str
) -> None:
    asked: list[str] = []
    with chromium() as browser, ExitStack() as held:
        with pytest.raises(BrowserError, match="ERR_INVALID_AUTH_CREDENTIALS"):
            browser.new_page().goto(f"{flower.at}/tasks")
        credentials: HttpCredentials = {"username": FLOWER_USER, "password": flower.password}
        page = browser.new_context(http_credentials=credentials).new_page()
        page.set_default_timeout(WITHIN_S * 1000)
        page.on("request", lambda request: asked.append(request.url))

        page.goto(f"{flower.at}/workers")
        for name in ("control", "spawn", "user"):
            row = page.locator("#workers-table tbody tr", has_text=f"{name}@")
            expect(row).to_contain_text("Online")
        with threads_taken(watched, flower):
            made = plugs(watched, network)
            leader = step_of(made[0])
            expected = {queue: "1" if queue == f"user_waiting@{NODE}" else "0" for queue in watched.settings.all_queues}

            def waiting() -> dict[str, str | None]:
                page.goto(f"{flower.at}/broker")
                rows = {
                    queue: page.locator("tr", has=page.get_by_role("cell", name=queue, exact=True))
                    for queue in expected
                }
                return {queue: row.locator("td").nth(1).text_content() for queue, row in rows.items()}

            # The page tells of one moment, in which a tick may wait for its turn.
            eventually(lambda: waiting() == expected, "the page tells what waits", within_s=WITHIN_S)
            held.enter_context(steps_held(watched, network, NODE))
        until_running(watched, leader)
        flower.task(leader, "STARTED")
        page.goto(f"{flower.at}/tasks")
        row = page.locator("#tasks-table tbody tr", has=page.get_by_title(leader))
        expect(row).to_contain_text(f"network='{network}', node='{NODE}'")
        expect(row).to_contain_text(UPDATE_DNSMASQ_STEP)
        row.get_by_title(leader).click()
        expect(page.locator(".detail-list")).to_contain_text("Folded")
        page.locator("#task-terminate").click()
        expect(page.locator("#toast-container")).to_contain_text(f"Revoked '{leader}'")
        assert state_of(watched, made[0]) == "cancelled"
        held.close()
    assert [state_of(watched, operation) for operation in made] == ["cancelled", *["succeeded"] * 3]
    assert {url.split("/", 3)[2] for url in asked} == {flower.at.removeprefix("http://")}, "no page needs the internet"
