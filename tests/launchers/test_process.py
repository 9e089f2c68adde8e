"""The process launcher: the conformance suite with real processes, and what only processes can get wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from config.profile import Profile
from config.settings import ProcessLauncher as ProcessSettings
from tasks import processes
from tasks.launchers import children, control, marks
from tasks.launchers.base import Exit, LaunchPermanent, LaunchSpec, LaunchTemporary
from tasks.launchers.environment import shareable
from tasks.launchers.ports import Ports
from tasks.launchers.process import ProcessLauncher
from tests.launchers.conformance import EXIT_S, LauncherCase, LauncherConformance, until_listening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LISTEN = """
import os, signal, socket, subprocess, sys
{before}
listener = socket.create_server(("127.0.0.1", int(os.environ["STOKER_PORT"])))
signal.pause()
"""
# A child that ignores SIGTERM; its pid is on the worker's log before the worker listens.
CHILD = """
code = "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()"
child = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, start_new_session={own_session})
child.stdout.readline()
print(child.pid, flush=True)
"""
PORTS_EACH = 120


def python(code: str, name: str = "test") -> Profile:
    return Profile(name=name, command=("{python}", "-S", "-c", code), memory=2**20)


POLITE = python(LISTEN.format(before=""))
STUBBORN = python(LISTEN.format(before="signal.signal(signal.SIGTERM, signal.SIG_IGN)"))
PARENT_OF_RUNAWAY = python(LISTEN.format(before=CHILD.format(own_session=True)))
PARENT = python(LISTEN.format(before=CHILD.format(own_session=False)))
FAIL = python("raise SystemExit(3)")


@pytest.fixture(scope="module")
def port_range() -> int:
    """The first of the ports that this run may use, so that two runs on one machine do not meet."""
    return 29_400 + os.getpid() % 20 * PORTS_EACH


@pytest.fixture
def make(tmp_path: Path, port_range: int) -> Callable[..., ProcessLauncher]:
    def build(**settings: int) -> ProcessLauncher:
        config = ProcessSettings(**{"first_port": port_range, "ports": PORTS_EACH, **settings})
        return ProcessLauncher(config, tmp_path / "logs")

    return build


@pytest.fixture
def case(make: Callable[..., ProcessLauncher]) -> Iterator[LauncherCase]:
    foreign: dict[str, str | int] = {"host": "some-other-host", "pid": os.getpid(), "started": "1@2/3"}
    before = zombies()  # of engines that other tests killed, perhaps
    with LauncherCase(make(), make, POLITE, STUBBORN, foreign, f"pool-{uuid.uuid4()}").cleaning_up() as launcher_case:
        yield launcher_case
    assert zombies() <= before, "a launcher must reap its own children"


def zombies() -> set[int]:
    return {child.pid for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE}


def log_of(case: LauncherCase, worker_id: int) -> str:
    assert isinstance(case.launcher, ProcessLauncher)
    return (case.launcher._log_dir / f"worker-{worker_id}.log").read_text()


class TestConformance(LauncherConformance):
    @pytest.fixture
    def case(self, case: LauncherCase) -> LauncherCase:
        return case


def test_a_recycled_pid_is_somebody_else_and_never_signalled(case: LauncherCase) -> None:
    placement = case.listening(1)
    earlier = {**placement.handle, "started": "12345@" + str(placement.handle["started"]).partition("@")[2]}
    assert not case.launcher.alive(earlier)
    asyncio.run(case.launcher.wait_exit(earlier))
    asyncio.run(case.launcher.stop(earlier, case.pool_id, 999, 0))
    assert case.launcher.alive(placement.handle)


def test_a_worker_of_an_earlier_boot_is_dead_though_its_pid_and_start_match(case: LauncherCase) -> None:
    placement = case.launch(1)
    ticks, _, _ = str(placement.handle["started"]).partition("@")
    before_reboot = {**placement.handle, "started": f"{ticks}@another-boot/1"}
    assert case.launcher.owns(before_reboot)
    assert not case.launcher.alive(before_reboot)


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    process = processes.look(child.pid)
    assert process is not None
    assert processes.alive(process.identity)
    assert child.stdin is not None
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, not reaped
    left = processes.look(child.pid)
    assert left is not None
    assert left.zombie
    assert not processes.alive(process.identity)
    asyncio.run(control.wait_gone(process.identity))
    assert control.send(process.identity, signal.SIGKILL) is False
    child.wait()


def test_the_exit_code_of_a_child_is_known(case: LauncherCase) -> None:
    assert asyncio.run(case.launcher.wait_exit(case.launch(1, profile=FAIL).handle)).code == 3
    placement = case.listening(2)
    case.stop(placement, 2)
    # Reaped before anybody asked.
    assert asyncio.run(case.launcher.wait_exit(placement.handle)).code == -signal.SIGTERM


def test_two_waiters_both_learn_of_the_exit(case: LauncherCase) -> None:
    placement = case.listening(1)

    async def kill() -> None:
        os.kill(int(placement.handle["pid"]), signal.SIGKILL)

    async def wait_twice() -> list[Exit]:
        waits = (case.launcher.wait_exit(placement.handle) for _ in range(2))
        first, second, _ = await asyncio.gather(*waits, kill())  # started in this order
        return [first, second]

    assert asyncio.run(wait_twice()) == [Exit(-signal.SIGKILL)] * 2


def test_a_worker_survives_whoever_started_it(
    case: LauncherCase, make: Callable[..., ProcessLauncher], tmp_path: Path
) -> None:
    config = make()._config
    starter_code = f"""
import json, pathlib, signal
from config.profile import Profile
from config.settings import ProcessLauncher as Settings
from tasks.launchers.base import LaunchSpec
from tasks.launchers.process import ProcessLauncher
launcher = ProcessLauncher(Settings.model_validate_json({config.model_dump_json()!r}), pathlib.Path({str(tmp_path)!r}))
profile = Profile.model_validate_json({POLITE.model_dump_json()!r})
placement = launcher.launch(LaunchSpec(77, {case.pool_id!r}, profile, "key"))
print(json.dumps(placement.handle), flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", starter_code], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        handle = json.loads(starter.stdout.readline())
        starter.kill()

    found = case.launcher.find(case.pool_id, 77)
    assert found is not None
    assert found.handle == handle
    until_listening(found)

    async def stop_while_waiting() -> None:
        waiting = asyncio.create_task(case.launcher.wait_exit(handle))
        await case.launcher.stop(handle, case.pool_id, 77, EXIT_S)
        async with asyncio.timeout(EXIT_S):
            assert (await waiting).code is None  # not our child: its code went to whoever adopted it

    asyncio.run(stop_while_waiting())
    assert not case.launcher.alive(handle)


@pytest.mark.parametrize("parent", [PARENT, PARENT_OF_RUNAWAY], ids=["same session", "own session"])
def test_children_of_the_worker_end_with_it(case: LauncherCase, parent: Profile) -> None:
    placement = case.listening(1, profile=parent)
    child = processes.look(int(log_of(case, 1)))
    assert child is not None
    assert [running.worker_id for running in case.launcher.list(case.pool_id)] == [1]
    case.stop(placement, 1)
    assert not processes.alive(child.identity)


def test_a_child_that_looks_as_old_as_its_worker_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(pid: int, parent_pid: int) -> marks.Marked:
        process = processes.Process(processes.Identity(pid, "1@boot"), parent_pid, pid, zombie=False, age_s=1.0)
        return marks.Marked(7, process, "http://127.0.0.1:1", "node")

    worker, child = seen(200, 1), seen(100, 200)
    monkeypatch.setattr(marks, "marked", lambda *_: [child, worker])
    assert marks.workers("pool") == [worker]


def test_what_a_dead_worker_left_behind_is_listed_and_ended_but_not_adopted(case: LauncherCase) -> None:
    placement = case.listening(1, profile=PARENT)
    child = processes.look(int(log_of(case, 1)))
    assert child is not None
    os.kill(int(placement.handle["pid"]), signal.SIGKILL)
    asyncio.run(case.launcher.wait_exit(placement.handle))
    assert [running.handle["pid"] for running in case.launcher.list(case.pool_id)] == [child.identity.pid]
    assert case.launcher.find(case.pool_id, 1) is None
    case.stop(placement, 1)
    assert not processes.alive(child.identity)


def test_a_taken_port_is_passed_over(case: LauncherCase, port_range: int) -> None:
    with socket.create_server(("127.0.0.1", port_range)):
        placement = case.listening(1)
    assert placement.endpoint != f"http://127.0.0.1:{port_range}"


def test_a_port_is_a_promise_before_its_worker_listens(port_range: int) -> None:
    ports = Ports(port_range, 2)
    first, second = ports.take(1), ports.take(1)
    assert {first, second} == {port_range, port_range + 1}
    with pytest.raises(LaunchTemporary, match="all taken"):
        ports.take(1)
    ports.give_back(second)
    assert ports.take(2) == second


def test_a_port_is_free_again_when_its_worker_is_dead(port_range: int) -> None:
    ports = Ports(port_range, 1)
    port = ports.take(1)
    ports.hold(port, processes.Identity(os.getpid(), "not this one"))
    assert ports.take(2) == port


def test_the_worker_sees_its_own_facts_and_no_secret_of_ours(
    case: LauncherCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOKER_DATABASE_URL", "postgresql://control:plane@db/stoker")
    monkeypatch.setenv("STOKER_REDIS_URL", "redis://db")
    monkeypatch.setenv("LEFTOVER", "amqp://user:pass@broker//")
    monkeypatch.setenv("PLAIN", "as it was")
    show = python("import os,json,sys;print(json.dumps([sys.argv,dict(os.environ)]))")
    show = show.model_copy(update={"command": (*show.command, "{port}", "{worker}"), "environment": {"OWN": "set"}})
    placement = case.launch(5, profile=show)
    assert asyncio.run(case.launcher.wait_exit(placement.handle)).code == 0
    argv, environment = json.loads(log_of(case, 5))
    port = placement.endpoint.rpartition(":")[2]
    assert argv[1:] == [port, "5"]
    assert environment["STOKER_PORT"] == port
    assert environment["STOKER_ENDPOINT"] == placement.endpoint
    assert environment["STOKER_ACTIVATION_KEY"] == "key-of-5"
    assert (environment["OWN"], environment["PLAIN"]) == ("set", "as it was")
    assert not {"STOKER_DATABASE_URL", "STOKER_REDIS_URL", "LEFTOVER", "NOTIFY_SOCKET"} & environment.keys()


@pytest.mark.parametrize(
    "name", ["AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "CELERY_BROKER_URL", "GITHUB_TOKEN", "FLOWER_AUTH"]
)
def test_secrets_are_known_by_their_names(name: str) -> None:
    assert shareable({name: "x", "PATH": "/bin", "PAGER": "less"}) == {"PATH": "/bin", "PAGER": "less"}


def test_the_worker_gets_a_session_of_its_own_and_no_input(case: LauncherCase) -> None:
    placement = case.listening(1)
    process = psutil.Process(int(placement.handle["pid"]))
    assert os.getsid(process.pid) == process.pid
    assert process.cwd() == str(Path.cwd())
    assert "key-of-1" not in " ".join(process.cmdline())


def test_a_worker_stands_back_behind_the_control_plane(make: Callable[..., ProcessLauncher]) -> None:
    launcher = make(nice=7)
    placement = launcher.launch(LaunchSpec(1, "nice", POLITE, "key"))
    pid = placement.handle["pid"]
    try:
        assert psutil.Process(pid).nice() == min(19, psutil.Process().nice() + 7)
        session = Path(f"/proc/{pid}/autogroup")
        if session.exists() and os.geteuid() == 0:  # of others it is taken ten times a second at most
            assert session.read_text().split()[-2:] == ["nice", "7"]
    finally:
        asyncio.run(launcher.stop(placement.handle, "nice", 1, EXIT_S))


def test_a_command_that_does_not_exist_is_permanent_and_frees_its_port(case: LauncherCase, port_range: int) -> None:
    for _ in range(2):
        with pytest.raises(LaunchPermanent, match=r"no-such-program.*mend the profile's command"):
            case.launcher.launch(case.spec(1, profile=Profile(name="test", command=("no-such-program",))))
    assert case.launch(1).endpoint.endswith(str(port_range))


def test_a_shortage_of_processes_is_temporary(case: LauncherCase, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(children, "start", no_room)
    with pytest.raises(LaunchTemporary, match="room for one more process"):
        case.launcher.launch(case.spec(1))


def test_simulated_nodes_hold_so_many_workers_each(make: Callable[..., ProcessLauncher], case: LauncherCase) -> None:
    case.launcher = make(simulated_node_size=2)
    assert [case.launch(worker_id).node for worker_id in (1, 2, 3)] == ["sim-0000", "sim-0000", "sim-0001"]
    found = case.launcher.find(case.pool_id, 3)
    assert found is not None
    assert found.node == "sim-0001"


def test_capacity_is_what_fits_into_the_share_of_memory(
    make: Callable[..., ProcessLauncher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.launchers.process._machine_memory", lambda: 10 * 2**30)
    half = ProcessLauncher(ProcessSettings(memory_share=0.5), Path())
    assert half.capacity(Profile(name="a", command=("x",), memory="1Gi")) == 5
    assert half.capacity(Profile(name="b", command=("x",), memory="6Gi")) == 0
    assert make(ports=3).capacity(Profile(name="a", command=("x",), memory="1Gi")) == 3


@pytest.mark.skipif(not processes.LINUX, reason="elsewhere the poll is all there is")
def test_without_a_descriptor_to_spare_waiting_and_stopping_still_work(
    case: LauncherCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", none_left)
    monkeypatch.setattr(control, "_POLL_S", 0.001)
    placement = case.listening(1)
    case.stop(placement, 1)
    assert not case.launcher.alive(placement.handle)


@pytest.mark.skipif(not processes.LINUX, reason="what the fallback would be elsewhere is what runs there")
def test_the_fallback_for_other_systems_tells_the_same(case: LauncherCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LINUX", False)
    placement = case.listening(1)
    assert case.launcher.alive(placement.handle)
    assert case.launcher.find(case.pool_id, 1) == placement
    assert [seen.worker_id for seen in marks.workers(case.pool_id)] == [1]
    case.stop(placement, 1)
    assert case.launcher.list(case.pool_id) == []


def test_a_key_in_a_spec_is_not_shown() -> None:
    assert "secret" not in repr(LaunchSpec(1, "pool", POLITE, "secret"))
