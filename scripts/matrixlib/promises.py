"""What is promised of which pairs, and whether the runs keep it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scripts.matrixlib.homes import HOMES, NEIGHBOURS, Home, none_may_fail
from scripts.matrixlib.results import Cell, Pair
from tests.lab.nat import EIM, NatKind


@dataclass(frozen=True, slots=True)
class Promise:
    """`words` for the page; `of` which pairs of homes, in either order; `least` is the share of runs to connect.

    `median_ms` is the most that the median may be, and `within_ms` how soon a run must have connected to count.
    """

    words: str
    of: Callable[[Home, Home], bool]
    least: float = 1.0
    median_ms: float = float("inf")
    within_ms: float = float("inf")

    def concerns(self, pair: Pair) -> bool:
        """Whether this pair is one of those."""
        if pair[0] in NEIGHBOURS:
            return False
        one, other = (HOMES[kind] for kind in pair)
        return self.of(one, other) or self.of(other, one)

    def kept(self, cell: Cell) -> bool:
        """Whether its runs are as promised."""
        soon = sum(time <= self.within_ms for time in cell.times)
        return soon >= self.least * cell.runs and cell.median_ms is not None and cell.median_ms <= self.median_ms


@dataclass(frozen=True, slots=True)
class Finding:
    """How a promise is kept: in how many pairs that were run, in which not; of each there were so many runs."""

    promise: Promise
    pairs: int
    fewest: int
    broken: tuple[Pair, ...]


def _translates(home: Home) -> NatKind | None:
    """Its NAT, if it is the only one, translates as a NAT does and lets out what is sent."""
    return None if home.carrier is not None or home.web_only else home.nat


def _counts(home: Home) -> bool:
    nat = _translates(home)
    return nat is not None and nat.mapping == "sequential"


def _draws(home: Home, *, of_all: bool) -> bool:
    nat = _translates(home)
    return nat is not None and nat.mapping == "symmetric" and nat.simultaneous_open and (nat.block == 0) == of_all


def _drops_crossing(home: Home) -> bool:
    nat = _translates(home)
    return nat is not None and nat.mapping == EIM and not nat.simultaneous_open


PROMISES = (
    Promise(
        "every run where one side is none, a full cone or mapped, both are cones, or both have IPv6", none_may_fail
    ),
    Promise("every run of a sequential NAT and a cone", lambda one, other: _counts(one) and other.is_cone),
    Promise("48 of 50 of two sequential NATs", lambda one, other: _counts(one) and _counts(other), least=0.96),
    Promise(
        "every run of a NAT that draws from a block and a cone, the median within 2 s",
        lambda one, other: _draws(one, of_all=False) and other.is_cone,
        median_ms=2000,
    ),
    Promise(
        "47 of 50 of a NAT that draws from all ports and a cone within 8 s, the median within 3.5 s",
        lambda one, other: _draws(one, of_all=True) and other.is_cone,
        least=0.94,
        median_ms=3500,
        within_ms=8000,
    ),
    Promise(
        "every run of a cone without simultaneous open and one with it",
        lambda one, other: _drops_crossing(one) and other.is_cone,
    ),
)
"""At the round trip that the matrix is run with."""


def findings(cells: Sequence[Cell]) -> list[Finding]:
    """How each promise is kept by these pairs."""
    found = []
    for promise in PROMISES:
        mine = [cell for cell in cells if promise.concerns(cell.case.pair)]
        broken = tuple(cell.case.pair for cell in mine if not promise.kept(cell))
        found.append(Finding(promise, len(mine), min((cell.runs for cell in mine), default=0), broken))
    return found
