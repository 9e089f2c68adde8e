"""A place for engines that others can reach (pytest's own folders are 0700), removed with every trace of them."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from config.locations import Locations
from tasks.engines import EmbeddedPostgres, EmbeddedValkey, wipe
from tasks.engines.server import EmbeddedServer

ANSWER_S_MAX = 30.0
# A forked process needs no second to import everything anew.
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="stoker test ", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def locations_under() -> Iterator[Callable[[Path], Locations]]:
    """Locations by state folder; whatever runs or lies there afterwards is stopped and removed."""
    with ExitStack() as clean:

        def under(state_dir: Path) -> Locations:
            locations = Locations.under(state_dir)
            clean.callback(wipe, locations)
            clean.callback(EmbeddedPostgres(locations).stop)
            clean.callback(EmbeddedValkey(locations).stop)
            return locations

        yield under


@pytest.fixture
def locations(open_folder: Path, locations_under: Callable[[Path], Locations]) -> Locations:
    return locations_under(open_folder / "state")


class Starter:
    """Another process that starts an engine and stays until it is killed."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._answers, theirs = FORK.Pipe(duplex=False)
        self._process = FORK.Process(target=self._start_and_stay, args=(server, theirs))
        self._process.start()
        theirs.close()

    def answer(self) -> bool:
        """Whether it started the engine, or attached to it."""
        assert self._answers.poll(ANSWER_S_MAX)
        answer = self._answers.recv()
        assert isinstance(answer, bool)
        return answer

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._answers.close()

    @staticmethod
    def _start_and_stay(server: EmbeddedServer, answers: Connection) -> None:
        answers.send(server.start())
        threading.Event().wait()


@pytest.fixture
def starter() -> Iterator[Callable[[EmbeddedServer], Starter]]:
    with ExitStack() as started:

        def begin(server: EmbeddedServer) -> Starter:
            process = Starter(server)
            started.callback(process.kill)
            return process

        yield begin
