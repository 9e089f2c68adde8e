"""Classes of work as operators set them: whole over the defaults, one order, reserves that leave something, known routes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.names import DEFAULT_ROUTES, QUEUES, class_of, node_queue
from config.queues import DEFAULT_QUEUES, LEAST_BOUND_S, overfull
from config.settings import Settings, SettingsError
from tasks.celery_app import configuration
from tasks.services import CONCURRENCY, Role, roles, services
from tests.support import profiles

Read = Callable[..., Settings]
REPORTS = {"rank": 5, "bound_s": 60.0, "reserve": 0.05, "worker": "spawn"}


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(**sections: Any) -> Settings:
        return profiles.settings_of(profiles.write(tmp_path / "stoker.toml", sections))

    return read


def test_the_classes_that_there_are_without_a_word_of_them(read: Read) -> None:
    settings = read()
    assert settings.queues == DEFAULT_QUEUES
    assert settings.classes == QUEUES
    assert settings.all_queues == (*QUEUES, "user_waiting@node1", "user_facing@node1", "background@node1")


def test_one_key_changes_and_the_others_stay(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_QUEUES__BACKGROUND__RESERVE", "0.2")
    settings = read(queues={"background": {"bound_s": 10.0}, "control": {}})
    assert settings.queues["background"] == DEFAULT_QUEUES["background"].model_copy(
        update={"bound_s": 10.0, "reserve": 0.2}
    )
    assert settings.queues["control"] == DEFAULT_QUEUES["control"]


def test_ranks_make_the_order_everywhere(read: Read) -> None:
    settings = read(queues={"spawn": {"rank": 4}, "background": {"rank": 3}})
    assert settings.classes == ("control", "user_waiting", "user_facing", "background", "spawn")
    assert configuration(settings)["coalescing"]["queues"] == settings.classes


def test_a_queue_of_the_operators_own_is_served_and_may_be_routed_to(read: Read) -> None:
    settings = read(queues={"reports": REPORTS}, routes={"pool.stop": "reports"})
    assert settings.all_queues[:6] == (*QUEUES, "reports")
    assert settings.routes == {**DEFAULT_ROUTES, "pool.stop": "reports"}
    assert roles(settings)["spawn"] == Role(("spawn", "background", "reports"), CONCURRENCY["spawn"])
    (worker,) = [service for service in services(settings) if service.name == "spawn"]
    assert worker.argv[worker.argv.index("-Q") + 1] == "spawn,background,reports"
    conf = configuration(settings)
    assert conf["broker_transport_options"]["queue_classes"]["reports"] == {"rank": 5, "bound_s": 60.0, "reserve": 0.05}
    assert {queue.name for queue in conf["task_queues"]} == set(settings.all_queues)


def test_every_queue_is_served_by_one_worker(read: Read) -> None:
    nodes = {"n1": {"address": "10.0.0.1", "namespace": "a"}, "n2": {"address": "10.0.0.2", "namespace": "b"}}
    for driver in ("dry_run", "linux"):
        settings = read(queues={"reports": REPORTS}, network={"driver": driver, "nodes": nodes})
        served = [queue for role in roles(settings).values() for queue in role.queues]
        assert sorted(served) == sorted(settings.all_queues)


def test_a_worker_whose_queues_were_given_away_is_not_started(read: Read) -> None:
    assert set(roles(read(queues={"control": {"worker": "spawn"}}))) == {"spawn", "user"}


def test_the_class_of_a_queue_is_what_its_name_says_without_the_node() -> None:
    assert [class_of(node_queue("background", node)) for node in ("", "node7")] == ["background", "background"]


def test_what_is_not_routed_goes_where_the_settings_say(read: Read) -> None:
    conf = configuration(read(routes={"*": "user_facing"}))
    assert conf["task_default_queue"] == "user_facing"
    assert "*" not in conf["task_routes"]


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"queues": {"spawn": {"reserve": 0.7}}}, "0.25 (user_facing) + 0.7 (spawn) + 0.1 (background) = 1.05"),
        ({"queues": {"spawn": {"reserve": 0.65}}}, "= 1 must be less than 1 in all"),
        ({"queues": {"spawn": {"reserve": 1}}}, "queues.spawn.reserve: Input should be less than 1"),
        ({"queues": {"spawn": {"reserve": -0.1}}}, "queues.spawn.reserve"),
        ({"queues": {"spawn": {"rank": 2}}}, "that of queues.user_facing; give one another: 3 is free"),
        ({"queues": {"spawn": {"rank": -1}}}, "queues.spawn.rank"),
        ({"queues": {"spawn": {"bound_s": 0}}}, "queues.spawn.bound_s: Input should be greater than"),
        ({"queues": {"spawn": {"bound_s": 1e9}}}, "queues.spawn.bound_s"),
        ({"queues": {"spawn": {"bound": 3}}}, "unknown key 'bound', did you mean 'bound_s'?"),
        ({"queues": {"spawn": {"worker": "network"}}}, "Input should be 'control', 'user' or 'spawn'"),
        ({"queues": {"spawn": False}}, "spawn = False: a queue that Stoker sends to cannot be removed; leave it out"),
        ({"queues": {"spawn": "user_facing"}}, "cannot be removed"),
        ({"queues": {"pool.claim": "control"}}, "where a task goes is written under [routes]"),
        ({"queues": {"mine": 3}}, "mine = 3 is no queue; expected a table of rank, bound_s, reserve, worker"),
        ({"queues": {"backgroud": {"bound_s": 3}}}, "needs rank, worker as well; or did you mean 'background'?"),
        ({"queues": {"a@b": REPORTS}}, "'a@b' is no name for a queue; use 1 to 63 small letters"),
        ({"queues": {"a b": REPORTS}}, "'a b' is no name for a queue"),
        ({"queues": {"a,b": REPORTS}}, "'a,b' is no name for a queue"),
        ({"queues": {"": REPORTS}}, "'' is no name for a queue"),
        ({"queues": {"unacked": REPORTS}}, "none of unacked, unacked_index, unacked_mutex"),
        (
            {"routes": {"pool.clam": "control"}},
            "routes.pool.clam: unknown task, did you mean 'pool.claim'?; known: pool",
        ),
        ({"routes": {"pool.claim": "spwan"}}, "routes.pool.claim = 'spwan': unknown queue, did you mean 'spawn'?"),
        ({"routes": {"pool.claim": "zzz"}}, "routes.pool.claim = 'zzz': unknown queue; known: control, user_waiting"),
        ({"routes": {"pool.claim": "background@node1"}}, "unknown queue, did you mean 'background'?"),
        ({"routes": {"*": "fast"}}, "routes.* = 'fast': unknown queue"),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(read: Read, sections: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(**sections)
    assert said in str(refused.value)


@pytest.mark.parametrize("evil", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("key", ["bound_s", "reserve"])
def test_no_bound_is_endless_and_no_reserve_is_no_number(tmp_path: Path, key: str, evil: str) -> None:
    path = tmp_path / "stoker.toml"
    path.write_text(f"[queues.spawn]\n{key} = {evil}\n")
    with pytest.raises(SettingsError, match=rf"queues\.spawn\.{key}"):
        profiles.settings_of(path)


def test_a_sum_is_compared_as_it_is_written() -> None:
    # Added one after the other as binary fractions these are less than 1.
    assert overfull({str(n): 0.1 for n in range(10)}) is not None
    assert overfull({str(n): 0.1 for n in range(9)}) is None
    assert LEAST_BOUND_S == 0.001
