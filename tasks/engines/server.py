"""The life of an embedded engine: one starter at a time, others attach, and none is left behind."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final

from scheduler.errors import Permanent, Temporary
from tasks.engines.folders import locked, make_home
from tasks.engines.identity import ProcessIdentity
from tasks.engines.launch import NO_SIGNAL, Child, launch, tail

if TYPE_CHECKING:
    from pathlib import Path

    from config.locations import Locations
    from tasks.engines.launch import User

START_S_MAX = 30.0
STOP_S_MAX = 10.0
ANSWER_STEP_S = 0.02

# The servers that this process has started, by number. They outlive the object that started them, and only their parent
# can reap them: whichever object stops one does.
_started_here: Final[dict[int, Child]] = {}


class EmbeddedServer(ABC):
    """A server program out of a wheel, run on the folders and sockets of one `Locations`.

    `durable=False` gives up what protects data from a power cut, for tests. `die_with_parent=False` lets the server
    outlive its starter; somebody must then call `stop`.
    """

    name: ClassVar[str]
    polite_signal: ClassVar[signal.Signals]
    death_signal: ClassVar[signal.Signals]
    user: User | None = None

    def __init__(self, locations: Locations, *, durable: bool = True, die_with_parent: bool = True) -> None:
        self.locations = locations
        self.durable = durable
        self.die_with_parent = die_with_parent

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.locations.logs / f"{self.name}.log"

    @property
    def record(self) -> Path:
        """Which process it is."""
        return self.locations.run / f"{self.name}.pid"

    def start(self) -> bool:
        """Have the server answer. True: this call started it. False: one was running already.

        The server dies with the thread that calls this (see `parent_death`), unless `die_with_parent` is off.

        Raises:
            Permanent: it ended or its folders are wrong; the message shows the end of its log.
            Temporary: it did not answer within 30 s.
        """
        make_home(self.locations)
        with locked(self._lock):
            running = self._recorded()
            if running is not None and self._answers_in_time(running):
                self._furnish()
                return False
            self._end_orphans()
            self._clear_remains()
            command = self._prepare()
            child = launch(
                command,
                log=self.log,
                cwd=self._cwd,
                user=self.user,
                death_signal=self.death_signal if self.die_with_parent else NO_SIGNAL,
                record=self.record,
            )
            _started_here[child.identity.pid] = child
            try:
                self._require_answer(child.identity)
                self._furnish()
            except BaseException:
                self._end(child.identity)
                raise
            return True

    def stop(self) -> None:
        """Stop the server, whoever started it: politely, and after 10 s by force. Harmless when there is none."""
        if not self.locations.run.is_dir():
            return
        with locked(self._lock):
            running = self._recorded()
            if running is not None:
                self._end(running)
            self.record.unlink(missing_ok=True)

    def wait_for_end(self) -> None:
        """Wait, however long, until the server that is recorded has ended; returns at once when there is none."""
        found = self._recorded()
        if found is not None:
            found.wait(None)

    def running(self) -> bool:
        """Whether the server lives and answers."""
        return self._recorded() is not None and self._answers()

    @abstractmethod
    def _prepare(self) -> list[str]:
        """Make what must lie on the disk and return the command that serves it."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether a client is served at this moment."""

    @property
    @abstractmethod
    def _cwd(self) -> Path:
        """The server's working folder."""

    def _furnish(self) -> None:  # noqa: B027 - an engine may have nothing to add
        """Have what clients expect to find in a server that answers. Called under the lock, more than once."""

    def _end_orphans(self) -> None:  # noqa: B027 - an engine may have one process only
        """End the processes that a killed server left behind. Called when the server itself is dead."""

    def _clear_remains(self) -> None:  # noqa: B027 - an engine may clear up by itself
        """Clear away the files that a killed server left behind. Called when none of its processes lives."""

    @property
    def _lock(self) -> Path:
        return self.locations.run / f"{self.name}.lock"

    def _recorded(self) -> ProcessIdentity | None:
        found = ProcessIdentity.read(self.record)
        if found is None or found.alive():
            return found
        _reap(found)
        return None

    def _require_answer(self, process: ProcessIdentity) -> None:
        if not self._answers_in_time(process):
            raise Permanent(
                f"the embedded {self.name} ended while it started",
                got=f"this at the end of {self.log}:\n{tail(self.log)}\n",
                remedy=f"mend what it names, or remove {self.locations.state_dir} to begin anew (its data is lost)",
            )

    def _answers_in_time(self, process: ProcessIdentity) -> bool:
        """Wait until it serves clients; False when it has ended instead."""
        deadline = time.monotonic() + START_S_MAX
        while not self._answers():
            # Waits for its end rather than for time to pass, so that a server that cannot start is reported at once.
            if process.wait(ANSWER_STEP_S):
                return False
            if time.monotonic() > deadline:
                raise Temporary(
                    f"the embedded {self.name} does not answer",
                    expected=f"an answer within {START_S_MAX:g} s",
                    got=f"none; the end of {self.log}:\n{tail(self.log)}\n",
                    remedy="try again on a machine that is less busy",
                )
        return True

    def _end(self, process: ProcessIdentity) -> None:
        process.signal(self.polite_signal)
        if not process.wait(STOP_S_MAX):
            process.signal(signal.SIGKILL)
            process.wait(STOP_S_MAX)
            self._end_orphans()
        _reap(process)


def _reap(process: ProcessIdentity) -> None:
    child = _started_here.get(process.pid)
    if child is not None and child.identity == process and not process.alive():
        child.process.wait()
        del _started_here[process.pid]
