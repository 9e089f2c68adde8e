"""A deployment whose Redis lets it do what it needs and nothing else: everything works, and nobody is refused anything."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_plus

import pytest
import redis
from celery import chord

from config.names import CLAIM_TASK, OPERATION_SHOW_TASK, RELEASE_TASK, RENEW_TASK, UPDATE_DNSMASQ_STEP
from scheduler.redis.connection import connect
from tasks.cli.doctor import examine
from tests.stack.test_operations import ended, lane_taken, runs_of, until_waiting
from tests.support.commands import call
from tests.support.deployment import Deployment
from tests.support.eventually import eventually
from tests.support.flower import Flower
from tests.support.guarded import INTRUDER, Engines, Valkey, guarded_deployment, guarded_engines
from tests.support.queue_servers import HOST, certificate

WITHIN_S = 60.0
# Of servers that live for one test.
PASSWORD, DATABASE_PASSWORD = "pa55/of:the@broker%20", "und/das:geheime@Wort%20"
FORBIDDEN: dict[str, tuple[str, ...]] = {
    "settings": ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
    "settings read": ("CONFIG", "GET", "*"),
    "all of them gone": ("FLUSHALL",),
    "all of one gone": ("FLUSHDB",),
    "all names": ("KEYS", "*"),
    "names one after the other": ("SCAN", "0"),
    "code of one's own": ("MODULE", "LIST"),
    "functions": ("FUNCTION", "LIST"),
    "the debugger": ("DEBUG", "SLEEP", "0"),
    "what others say": ("MONITOR",),
    "who else is there": ("CLIENT", "LIST"),
    "rights": ("ACL", "SETUSER", "stoker", "+@all"),
    "an end": ("SHUTDOWN", "NOSAVE"),
    "another master": ("REPLICAOF", "127.0.0.1", "1"),
    "the scripts of others": ("SCRIPT", "FLUSH"),
    "a key of others": ("GET", "somebody-elses"),
    "a key of others by a script": ("EVAL", "return redis.call('GET', KEYS[1])", "1", "somebody-elses"),
    "a command by a script": ("EVAL", "return redis.call('FLUSHALL')", "0"),
    "a channel of others": ("PUBLISH", "somebody-elses", "x"),
}


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    with guarded_engines(PASSWORD, DATABASE_PASSWORD) as running:
        yield running


@pytest.fixture(scope="module")
def valkey(engines: Engines) -> Valkey:
    return engines.valkey


@pytest.fixture(scope="module")
def guarded(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with guarded_deployment(tmp_path_factory.mktemp("stack"), engines) as deployment:
        yield deployment


def test_claims_wait_and_are_woken(guarded: Deployment) -> None:
    held = call(guarded, CLAIM_TASK, "acme", "later", wait_s=WITHIN_S)
    assert held["outcome"] == "held"
    claim = ("acme", held["worker_id"], held["epoch"])
    assert call(guarded, RENEW_TASK, *claim, "later") is True
    assert call(guarded, RELEASE_TASK, *claim) == "hot_idle"


def test_operations_share_runs(guarded: Deployment) -> None:
    networks = guarded.context.networks
    assert ended(guarded, networks.create("blue", "10.1.0.0/24"))["state"] == "succeeded"
    with lane_taken(guarded, "blue"):
        plugs = [networks.plug("blue", f"web{n}", "node1")[0] for n in range(3)]
        until_waiting(guarded, *plugs)
    assert [ended(guarded, plug)["state"] for plug in plugs] == ["succeeded"] * 3
    assert runs_of(guarded, "blue", UPDATE_DNSMASQ_STEP)[-1] == (3, "succeeded")


def test_groups_and_chords_of_ones_own_work(guarded: Deployment) -> None:
    app = guarded.context.app
    show = app.signature(OPERATION_SHOW_TASK, queue="user_waiting")
    claim = app.signature(CLAIM_TASK, kwargs={"profile": "echo"}, queue="user_waiting")
    answer = chord([show.clone((1,)), show.clone((2,))], claim).apply_async().get(timeout=WITHIN_S)
    assert answer["outcome"] == "refused", "a list of results is no tenant"
    assert app.control.ping(timeout=10, limit=3)
    app.control.purge()


def test_flower_and_the_exporter_see_it(guarded: Deployment) -> None:
    flower = Flower(guarded.settings)
    all_ = {"control", "spawn", "user"}
    eventually(lambda: all_ <= flower.workers().keys(), "Flower knows the workers", within_s=WITHIN_S)
    known = set(guarded.settings.classes)
    eventually(lambda: known <= flower.lengths().keys(), "Flower asks for the length of each queue", within_s=WITHIN_S)

    url = f"http://127.0.0.1:{guarded.settings.exporter.port}/metrics"

    def listens() -> bool:
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        return 'stoker_up{engine="redis"} 1.0' in text and "stoker_events_listening 1.0" in text

    eventually(listens, "the exporter hears events", within_s=WITHIN_S)


@pytest.mark.parametrize(
    "command",
    [
        ("doctor",),
        ("status",),
        ("queues",),
        ("queues", "set", "background", "--bound", "20s"),
        ("queues", "reset", "background"),
    ],
    ids=" ".join,
)
def test_commands_work(guarded: Deployment, command: tuple[str, ...]) -> None:
    ended = guarded.cli(*command)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("wrong", ["authority", "name"])
def test_a_server_that_nobody_vouches_for_is_refused(
    engines: Engines, guarded: Deployment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: str
) -> None:
    urls = {"redis": engines.redis_url, "postgresql": engines.database_url}
    if wrong == "authority":
        other = str(certificate(tmp_path).path)
        urls = {name: url.replace(quote_plus(str(engines.authority)), quote_plus(other)) for name, url in urls.items()}
    else:
        urls = {name: url.replace(f"@{HOST}", "@localhost") for name, url in urls.items()}
    misled = guarded.settings.model_copy(update={"redis_url": urls["redis"], "database_url": urls["postgresql"]})
    monkeypatch.setattr("tasks.cli.doctor.load", lambda: misled)
    found = {each.name: each for each in examine()}
    for name in urls:
        assert not found[name].ok
        assert re.search("certificate verify failed|does not match host name", found[name].found)
        assert "sslrootcert" in found[name].remedy
        assert not {PASSWORD, DATABASE_PASSWORD} & set(found[name].found)


@pytest.mark.parametrize("command", FORBIDDEN.values(), ids=FORBIDDEN)
def test_nothing_else_is_allowed(valkey: Valkey, command: tuple[str, ...]) -> None:
    with valkey.stoker(INTRUDER) as client, pytest.raises(redis.ResponseError) as refusal:
        client.execute_command(*command)
    assert "ermission" in str(refusal.value) or "not allowed" in str(refusal.value)


@pytest.mark.parametrize("user", ["default", "stoker"])
def test_nobody_comes_in_without_the_password(valkey: Valkey, user: str) -> None:
    with pytest.raises(redis.AuthenticationError), connect(f"redis://{user}:wrong@127.0.0.1:{valkey.port}/0") as client:
        client.ping()


@pytest.mark.parametrize(
    ("right", "check", "named"),
    [
        ("-info", "redis", "'info' command"),
        ("-hgetall", "policies of queues", "'hgetall'"),
        ("resetkeys", "rights on redis", "~spawn"),
    ],
)
def test_the_doctor_names_the_right_that_is_missing(
    valkey: Valkey, guarded: Deployment, monkeypatch: pytest.MonkeyPatch, right: str, check: str, named: str
) -> None:
    with valkey.watcher() as client:
        rules = next(line for line in client.acl_list() if line.startswith("user stoker ")).split()[2:]
        client.execute_command("ACL", "SETUSER", "lesser", *rules, right)
    lesser = guarded.settings.model_copy(update={"redis_url": valkey.url.replace("stoker:", "lesser:")})
    monkeypatch.setattr("tasks.cli.doctor.load", lambda: lesser)
    (found,) = [each for each in examine() if each.name == check]
    assert not found.ok
    assert found.found.startswith("NOPERM")
    assert named in found.found
    assert "deploy/valkey/users.acl" in found.remedy
