"""`stoker health`: is it well? For health checks of containers, and for a look at everything on this machine."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from rich.text import Text

from config.settings import load
from tasks.cli.output import console, print_json
from tasks.health import ENGINES, Health, check

if TYPE_CHECKING:
    from config.settings import Settings

# Beyond the time that each check has: to start, and for what no library bounds, such as a name that is looked up.
_AND_SECONDS: Final = 5.0


def examine(service: str | None, node: str | None, timeout_s: float) -> list[Health]:
    """One service, or all that `stoker up` runs on a machine. This process ends by SIGALRM where it hangs all the same."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, timeout_s + _AND_SECONDS)
    settings = load()
    asked = {service: node} if service else _all(settings)
    with ThreadPoolExecutor(len(asked)) as threads:
        return list(
            threads.map(lambda each: check(each[0], settings, node=each[1], timeout_s=timeout_s), asked.items())
        )


def show(found: list[Health], *, as_json: bool) -> None:
    """A line a service."""
    if as_json:
        print_json([vars(each) for each in found])
        return
    for each in found:
        mark = ("ok   ", "green") if each.ok else ("UNWELL", "bold red")
        console.print(Text.assemble(mark, f" {each.service}: ", (each.found, "dim" if each.ok else "")), soft_wrap=True)


def _all(settings: Settings) -> dict[str, str | None]:
    from tasks.services import services  # noqa: PLC0415 - one service alone is asked without the list of them

    return {ENGINES: None} | {service.name: service.node for service in services(settings)}
