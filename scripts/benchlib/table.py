"""What the bench prints: rows with a figure, its spread, a target and a verdict."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Verdict = Literal["PASS", "MISS", ""]


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a figure with its unit, and the most (`target`) that it should be, if there is a target."""

    name: str
    value: float
    unit: str
    target: float | None = None
    note: str = ""
    at_least: bool = False
    """The target is the least that the figure should be."""

    @property
    def verdict(self) -> Verdict:
        """Whether the figure meets its target."""
        if self.target is None:
            return ""
        good = self.value >= self.target if self.at_least else self.value <= self.target
        return "PASS" if good else "MISS"


@dataclass(frozen=True, slots=True)
class Failed:
    """A row that could not be measured, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Setting:
    """What a group of rows works with: a folder of its own, the number of runs, the size of files in MiB."""

    folder: Path
    runs: int
    size_mib: int
    bench_venv: Path
    say: Callable[[str], None]


Group = Callable[[Setting], Iterable[Row | Failed]]


def median_row(name: str, values: Sequence[float], unit: str, *, target: float | None = None, note: str = "") -> Row:
    """The median of several runs; the note gets the least and the most of them."""
    spread = f"{min(values):.3g} to {max(values):.3g}, {len(values)} runs"
    return Row(name, statistics.median(values), unit, target, f"{spread}{', ' if note else ''}{note}")


def render(rows: Sequence[Row | Failed]) -> str:
    """The table as text."""
    cells = [("row", "figure", "target", "", "")]
    for row in rows:
        if isinstance(row, Failed):
            cells.append((row.name, "not measured", "", "FAIL", row.why.splitlines()[0]))
        else:
            sign = ">=" if row.at_least else "<="
            target = "" if row.target is None else f"{sign} {row.target:g} {row.unit}".rstrip()
            cells.append((row.name, f"{row.value:.3f} {row.unit}".rstrip(), target, row.verdict, row.note))
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    lines = []
    for name, figure, target, verdict, note in cells:
        fields = (name.ljust(widths[0]), figure.rjust(widths[1]), target.rjust(widths[2]), verdict.ljust(widths[3]))
        lines.append("  ".join((*fields, note)).rstrip())
    return "\n".join(lines)
