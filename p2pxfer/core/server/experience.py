"""Which strategy led to a path between which kinds of NAT: counts that fade, and the order that follows from them.

Laws of this file:

1. Only kinds are kept: no address, no port, no key, no name, no time of a meeting.
2. Nothing grows: kinds, ways and results come from fixed lists, and other words are dropped.
3. A count halves every :data:`HALF_LIFE_S` seconds, so that what networks do now outweighs what they did.
4. An order is advice among ways that fit both NATs: it changes no budget and no target.  Fewer than :data:`ENOUGH`
   reports of two kinds give none.

Times are seconds on one monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, get_args

from msgspec import Struct

from p2pxfer.core.traversal.strategies import Kind, ways

HALF_LIFE_S: Final = 30 * 86_400.0
ENOUGH: Final = 20.0
"""Reports of two kinds from which on there is an order."""
LOST: Final = "lost"
TOOK: Final = ((1.0, "1s"), (3.0, "3s"), (math.inf, "more"))
"""Classes of time, from the introduction to the path."""
RESULTS: Final = (*(name for _, name in TOOK), LOST)
_GONE: Final = 0.001
"""A count below it is forgotten."""

_WAYS: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    (one, other): ways(one, other) for one in get_args(Kind) for other in get_args(Kind)
}


class Row(Struct, frozen=True):
    """How often ``way`` ended with ``result`` between two kinds of NAT, ``one`` not after ``other`` in the alphabet."""

    one: str
    other: str
    way: str
    result: str
    count: float


def took(seconds: float) -> str:
    """The class of a time."""
    return next(name for limit, name in TOOK if seconds <= limit)


class Experience:
    """The counts of one server."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str, str], float] = {}
        self._as_of = -math.inf
        self.changed = False
        """Something was noted since the driver last kept the rows; it sets this back."""

    def note(self, one: Kind, other: Kind, way: str, result: str, now: float) -> bool:
        """One side's word of one meeting; False if it is none that can be."""
        if result not in RESULTS or way not in ways(one, other):
            return False
        self._fade(now)
        self._add(one, other, way, result)
        if way != "single":
            # Single dials are under way in every punch: whatever became of another way, they led nowhere.
            self._add(one, other, "single", LOST)
        self.changed = True
        return True

    def order(self, one: Kind, other: Kind, now: float) -> list[str]:
        """The ways that fit two kinds, those that led to a path most often first; empty if too little is known."""
        self._fade(now)
        fit = ways(one, other)
        first, second = sorted((one, other))
        tried = {way: sum(self._counts.get((first, second, way, result), 0.0) for result in RESULTS) for way in fit}
        if tried["single"] < ENOUGH:
            return []
        lost = {way: self._counts.get((first, second, way, LOST), 0.0) for way in fit}
        # What was never tried counts as if it led to a path every other time, so it gets its turn when all else fails.
        chance = {way: (tried[way] - lost[way] + 1) / (tried[way] + 2) for way in fit}
        return sorted(fit, key=lambda way: -chance[way])

    def rows(self, now: float) -> list[Row]:
        """Everything that is known, in the order of the words."""
        self._fade(now)
        return [Row(*key, count) for key, count in sorted(self._counts.items())]

    def load(self, rows: Iterable[Row], age: float, now: float) -> None:
        """Add rows that were kept ``age`` seconds ago; what no server of this version would have kept is left out."""
        self._fade(now)
        for row in rows:
            if row.one <= row.other and row.result in RESULTS and row.way in _WAYS.get((row.one, row.other), ()):
                key = (row.one, row.other, row.way, row.result)
                self._counts[key] = self._counts.get(key, 0.0) + row.count * _left(max(0.0, age))

    def _add(self, one: str, other: str, way: str, result: str) -> None:
        first, second = sorted((one, other))
        self._counts[first, second, way, result] = self._counts.get((first, second, way, result), 0.0) + 1

    def _fade(self, now: float) -> None:
        if now > self._as_of:
            left = _left(now - self._as_of) if self._counts else 1.0
            faded = {key: count * left for key, count in self._counts.items()}
            self._counts = {key: count for key, count in faded.items() if count > _GONE}
            self._as_of = now


def _left(seconds: float) -> float:
    return float(0.5 ** (seconds / HALF_LIFE_S))
