"""What a bench found: `bench-results/NAME.json` for programs, tables for people."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

if TYPE_CHECKING:
    from bench.figures import Ratio

FOLDER: Final = Path("bench-results")


@dataclass(frozen=True)
class Aim:
    """What a figure should come to."""

    name: str
    at_most: float | None = None
    at_least: float | None = None

    def is_met(self, got: float) -> bool:
        """Whether this is good enough."""
        return (self.at_most is None or got <= self.at_most) and (self.at_least is None or got >= self.at_least)

    def __str__(self) -> str:
        bounds = {"<=": self.at_most, ">=": self.at_least}
        return " and ".join(f"{sign} {bound:g}" for sign, bound in bounds.items() if bound is not None)

    def as_json(self) -> dict[str, float]:
        """For programs."""
        bounds = {"at_most": self.at_most, "at_least": self.at_least}
        return {name: bound for name, bound in bounds.items() if bound is not None}


@dataclass
class Result:
    """Filled by a bench. `figures` are the raw numbers, `ratios` what the bench is for."""

    settings: dict[str, Any]
    engines: dict[str, str] = field(default_factory=dict)  # what ran, and its version
    figures: dict[str, Any] = field(default_factory=dict)
    ratios: dict[str, Ratio] = field(default_factory=dict)
    aims: list[Aim] = field(default_factory=list)
    aimed_ms: dict[str, float] = field(default_factory=dict)  # figures in ms that an aim is about and that are no ratio
    findings: dict[str, Any] = field(default_factory=dict)  # what is no number: sections of the file of their own
    tables: list[Table] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The part of the file that the bench itself is responsible for."""
        return {
            "settings": self.settings,
            "ratios": {name: round(ratio.median, 4) for name, ratio in self.ratios.items()},
            "spread": {name: ratio.as_json() for name, ratio in self.ratios.items()},
            "aims": {
                aim.name: {**aim.as_json(), "got": round(got, 4), "met": aim.is_met(got)}
                for aim in self.aims
                if (got := self._got(aim.name)) is not None
            },
            "figures": self.figures,
            **self.findings,
        }

    def summary(self) -> Table:
        """Ratios and aimed figures, each with its spread and its aim."""
        table = Table(title="ratios", title_justify="left", header_style="bold")
        for column in ("figure", "median", "rounds lay", "aim", ""):
            table.add_column(column, justify="left" if column == "figure" else "right")
        aims = {aim.name: aim for aim in self.aims}
        for name in (*self.ratios, *self.aimed_ms):
            got, aim, ratio = self._got(name), aims.get(name), self.ratios.get(name)
            assert got is not None
            table.add_row(
                name,
                f"{got:.2f}",
                f"{ratio.lowest:.2f} to {ratio.highest:.2f}" if ratio else "",
                "" if aim is None else str(aim),
                "" if aim is None else ("[green]met[/]" if aim.is_met(got) else "[red]missed[/]"),
            )
        return table

    def _got(self, name: str) -> float | None:
        ratio = self.ratios.get(name)
        return ratio.median if ratio else self.aimed_ms.get(name)


def write(name: str, document: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Write the document where it is looked for; whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    new = path.with_suffix(".json.new")
    new.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    new.replace(path)
    return path
