"""Where networks can be made, and what is said where they cannot."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from config.network import Network
from demo.lab import Lab
from scheduler.errors import Permanent
from tasks.network import linux_commands
from tasks.network.sandbox import Sandbox, ways
from tests.network.conformance import NODE, DriverCase
from tests.support.netchild import remote


@dataclass(frozen=True)
class Powerless(Sandbox):
    """This machine, for who may change no network."""

    def enter(self, argv: Sequence[str]) -> tuple[str, ...]:
        without = ("setpriv", "--bounding-set=-net_admin,-sys_admin", "--inh-caps=-all", "--")
        return (*(without if os.geteuid() == 0 else ()), *argv)


def test_the_way_is_known_with_its_reason() -> None:
    way = ways()
    assert way.reason
    assert (way.way == "root") <= (os.geteuid() == 0)


def test_a_sandbox_sees_the_files_of_the_machine(box: Sandbox, shared_lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "greeting").write_text("hello", encoding="utf-8")
    assert shared_lab.run(("cat", str(tmp_path / "greeting")), NODE) == "hello"
    assert box.enter(("true",))[-1] == "true"


def test_without_the_right_a_person_is_asked(tmp_path: Path) -> None:
    view = replace(DriverCase(None, None, ("one", "two")).view(0x53), ports=())  # type: ignore[arg-type]
    with remote(Powerless(None), Network(driver="linux"), tmp_path) as driver:
        for method, *args in (("create_network", view), ("delete_network", NODE, view.vni, "blue")):
            with pytest.raises(Permanent, match="CAP_NET_ADMIN"):
                driver.call(method, *args)


def test_a_program_that_is_not_there_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux_commands, "_PATH", "/nowhere")
    with pytest.raises(Permanent, match="apt-get install dnsmasq-base"):
        linux_commands.program("dnsmasq")
