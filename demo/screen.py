"""The run as it goes: a live picture on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from demo.record import STATES, Sample
from tasks.cli.output import STATE_COLOURS

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from demo.journal import Journal

LINE_EVERY_S: Final = 3.0
_BAR_MAX: Final = 60
_NARROW: Final = 100


class Screen:
    """Shows the phase, the pool by state and the claims so far, for the time of a `with` block."""

    def __init__(self, console: Console, journal: Journal) -> None:
        self._console = console
        self._journal = journal
        self._phase = "starting"
        self._notes: list[str] = []
        self._sample: Sample | None = None
        self._line_due_s = 0.0
        self._began = time.monotonic()
        self._live = Live(get_renderable=self._picture, console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def phase(self, name: str) -> None:
        """A part of the run begins."""
        self._phase = name
        self._say(Text.assemble((f"{self._elapsed_s():6.1f} s  ", "dim"), (name, "bold")))

    def note(self, text: str) -> None:
        """Something worth keeping on the screen while it runs."""
        self._notes.append(text)
        if not self._console.is_terminal:
            self._say(Text(f"          {text}"))

    def say(self, line: str) -> None:
        """A line of whatever runs below."""
        self._say(Text(f"          {line}", style="yellow"))

    def show(self, sample: Sample) -> None:
        """The pool as it is now."""
        self._sample = sample
        if not self._console.is_terminal and sample.at_s >= self._line_due_s:
            self._line_due_s = sample.at_s + LINE_EVERY_S
            states = "  ".join(f"{state} {count}" for state, count in sample.workers.items() if count)
            line = f"{states or 'no workers'}  waiting {sample.waiting}  claims {self._journal.served}"
            self._say(Text.assemble((f"{self._elapsed_s():6.1f} s  ", "dim"), line))

    def _say(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True, highlight=False)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def _picture(self) -> RenderableType:
        head = Text.assemble(
            (f"{self._elapsed_s():6.1f} s  ", "dim"), (self._phase, "bold cyan"), f"   claims {self._journal.served}"
        )
        notes = [Text(f"          {note}", style="dim") for note in self._notes]
        return Group(head, *notes, self._bars())

    def _bars(self) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        table.add_column(justify="right", width=12)
        table.add_column(justify="right", width=3)
        table.add_column()
        sample = self._sample
        if sample is None:
            return table
        per_worker = 1 if self._console.width >= _NARROW else 0.5
        for name, count in (*((state, sample.workers[state]) for state in STATES), ("waiting", sample.waiting)):
            colour = STATE_COLOURS.get(name, "red" if name == "waiting" else "dim")
            table.add_row(name, str(count), Text("█" * min(_BAR_MAX, round(count * per_worker)), style=colour))
        return table
