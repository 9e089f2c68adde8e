"""`stoker demo`: a whole deployment on this machine, networks and the cold ramp on it, and a report of what happened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from config.settings import SettingsError
from demo.dataset import DatasetMissing
from demo.figures import pool_figures
from demo.journal import Journal
from demo.judgement import held, judge
from demo.network.figures import network_figures
from demo.network.ground import find_ground
from demo.network.judgement import judge_networks
from demo.queries import DatasetWrong
from demo.recording import record
from demo.report import HTML_NAME, JSON_NAME, summary, violations, write_report
from demo.sandbox import alone, own_settings
from demo.screen import Screen
from scheduler.errors import StokerError
from tasks.cli.output import console, errors, fail, print_json
from tasks.engines import wipe

if TYPE_CHECKING:
    from rich.console import Console

    from config.settings import Settings
    from demo.network.ground import Ground

HELD: Final = 0
VIOLATED: Final = 1
BROKEN_OFF: Final = 130  # what a shell says of a command that Ctrl-C ended
SHOWN_MAX: Final = 20


def run_demo(report_dir: str, *, as_json: bool) -> int:
    """Run the demo, write demo-report.json and demo-report.html into `report_dir`; the exit code.

    0: nothing was violated. 1: something was, or the demo could not be played; the logs are kept. 130: broken off, and
    cleaned up. To be called in the main thread: the engines die with it, and it is the one that hears signals.

    """
    folder = Path(report_dir).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    out = errors if as_json else console
    try:
        ground = find_ground()
        with own_settings(ground.network) as settings, alone(settings):
            return _run(settings, ground, folder, out, as_json=as_json)
    except KeyboardInterrupt:
        out.print("broken off: everything is stopped, no report was written", style="yellow")
        return BROKEN_OFF
    except (StokerError, SettingsError, DatasetMissing, DatasetWrong) as error:
        return fail(error, as_json=as_json).exit_code


def _run(settings: Settings, ground: Ground, folder: Path, out: Console, *, as_json: bool) -> int:
    journal = Journal()
    try:
        with Screen(out, journal) as screen:
            run = record(settings, ground, screen, journal)
    except KeyboardInterrupt:
        wipe(settings.locations)
        raise
    figures = pool_figures(run)
    networks = network_figures(run.network)
    checks = [*judge(figures), *judge_networks(networks)]
    document = write_report(folder, run, figures, networks, checks)
    if as_json:
        print_json(document)
    out.print(summary(figures, networks, checks))
    for violation in [said for some in violations(run).values() for said in some][:SHOWN_MAX]:
        out.print(violation, style="red", soft_wrap=True, markup=False, highlight=False)
    out.print(f"report: {folder / HTML_NAME}\n        {folder / JSON_NAME}", soft_wrap=True, highlight=False)
    if not held(checks):
        out.print(
            f"violated; the logs are kept in {settings.locations.logs}",
            style="bold red",
            soft_wrap=True,
            highlight=False,
        )
        return VIOLATED
    wipe(settings.locations)
    return HELD
