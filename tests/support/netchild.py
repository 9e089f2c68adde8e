"""A process of its own with a driver in it, for who is not allowed to make networks or means to kill one that does."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.network import Network
from scheduler.core.netview import NetworkView
from tasks.network import Changes, Observed, driver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.network.sandbox import Sandbox

ROOT = Path(__file__).parents[2]


class RemoteDriver:
    """The driver's methods, done by the child."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.child = child

    def create_network(self, view: NetworkView) -> Changes:
        return self.call("create_network", view)

    def ensure_mesh(self, view: NetworkView) -> Changes:
        return self.call("ensure_mesh", view)

    def update_dnsmasq(self, view: NetworkView) -> Changes:
        return self.call("update_dnsmasq", view)

    def plug_interface(self, view: NetworkView, interface: str) -> Changes:
        return self.call("plug_interface", view, interface)

    def unplug_interface(self, view: NetworkView, interface: str) -> Changes:
        return self.call("unplug_interface", view, interface)

    def converge_floating(self, view: NetworkView) -> Changes:
        return self.call("converge_floating", view)

    def delete_network(self, node: str, vni: int, name: str) -> Changes:
        return self.call("delete_network", node, vni, name)

    def observe(self, node: str, vni: int) -> Observed:
        return self.call("observe", node, vni)

    def call(self, method: str, *args: Any, killed_after_s: float | None = None) -> Any:
        self.send(method, *args, killed_after_s=killed_after_s)
        return self.answer()

    def send(self, method: str, *args: Any, killed_after_s: float | None = None) -> None:
        assert self.child.stdin
        pickle.dump((method, args, killed_after_s), self.child.stdin)
        self.child.stdin.flush()

    def answer(self) -> Any:
        assert self.child.stdout
        good, value = pickle.load(self.child.stdout)  # noqa: S301 - our own child
        if not good:
            raise value
        return value


@contextmanager
def remote(box: Sandbox, config: Network, state_dir: Path) -> Iterator[RemoteDriver]:
    """A child with the driver of these settings in it."""
    argv = box.enter((sys.executable, "-m", "tests.support.netchild", config.model_dump_json(), str(state_dir)))
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        yield RemoteDriver(child)


def _serve() -> None:
    made = driver(Network.model_validate_json(sys.argv[1]), Path(sys.argv[2]))
    answers = os.fdopen(os.dup(1), "wb")
    while True:
        try:
            method, args, killed_after_s = pickle.load(sys.stdin.buffer)  # noqa: S301 - our own parent
        except EOFError:
            return
        try:
            work = getattr(made, method)
            answer = True, work(*args) if killed_after_s is None else _doomed(work, args, killed_after_s)
        except Exception as error:  # noqa: BLE001 - the other side raises it
            answer = False, error
        pickle.dump(answer, answers)
        answers.flush()


def _doomed(work: Any, args: Any, killed_after_s: float) -> bool:
    """Whether the call was killed before it ended."""
    pid = os.fork()
    if pid == 0:
        work(*args)
        os._exit(0)
    time.sleep(killed_after_s)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0


if __name__ == "__main__":
    _serve()
