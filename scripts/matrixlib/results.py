"""What became of the runs, and its figures.  No I/O but reading and appending a file of results."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations_with_replacement
from pathlib import Path

Pair = tuple[str, str]

DEFAULT_KINDS = (
    "none",
    "full-cone",
    "full-cone/rst",
    "address-restricted",
    "address-restricted/rst",
    "port-restricted",
    "port-restricted/rst",
    "port-restricted/random-port",
    "port-restricted/random-port/rst",
    "port-restricted/no-simo",
    "sequential",
    "symmetric",
    "block-64",
    "block-256",
    "block-512",
)
"""Names in `tests.lab.nat.KINDS`."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of one pair; the sender is behind `one`.

    `ms` is the time from the introduction to the nominated path, None if the run failed; then `reason` says why.
    `syns` are the bare SYNs that sender and receiver sent to anyone but the server, None if nobody could count them.
    """

    one: str
    other: str
    ms: float | None
    syns: tuple[int, int] | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """The figures of one pair: times in milliseconds, SYNs of sender and receiver; None where no run gave any."""

    one: str
    other: str
    runs: int
    connected: int
    median_ms: float | None
    p90_ms: float | None
    syns: tuple[float, float] | None
    reasons: tuple[str, ...]
    """Of the failed runs, each once, the most frequent first."""


def pairs(kinds: Sequence[str]) -> list[Pair]:
    """Every pair of kinds, equal ones too, each in one order."""
    return list(combinations_with_replacement(kinds, 2))


def percentile(values: Sequence[float], share: float) -> float:
    """The least of `values` that at least this share of them does not exceed (nearest rank).

    Raises `ValueError` for no values and for a share outside 0 to 1.
    """
    if not values or not 0 < share <= 1:
        raise ValueError("no such percentile")
    return sorted(values)[math.ceil(share * len(values)) - 1]


def summarize(pair: Pair, attempts: Iterable[Attempt]) -> Cell:
    """The figures of one pair; attempts of others are left out."""
    mine = [each for each in attempts if (each.one, each.other) == pair]
    times = [each.ms for each in mine if each.ms is not None]
    syns = [each.syns for each in mine if each.syns is not None]
    reasons = [each.reason for each in mine if each.ms is None]
    return Cell(
        *pair,
        runs=len(mine),
        connected=len(times),
        median_ms=statistics.median(times) if times else None,
        p90_ms=percentile(times, 0.9) if times else None,
        syns=(statistics.median(s for s, _ in syns), statistics.median(r for _, r in syns)) if syns else None,
        reasons=tuple(sorted(set(reasons), key=lambda reason: (-reasons.count(reason), reason))),
    )


class Store:
    """Attempts in a file, one JSON object a line, so that an interrupted run goes on where it was."""

    def __init__(self, path: Path | None) -> None:
        """Read what is there; None keeps the attempts in memory only.  Raises `ValueError` for other contents."""
        self._path = path
        self._attempts: list[Attempt] = []
        if path is not None and path.exists():
            for number, line in enumerate(path.read_text().splitlines(), 1):
                try:
                    self._attempts.append(_decoded(json.loads(line)))
                except (ValueError, TypeError, KeyError) as error:
                    raise ValueError(f"{path}, line {number}: not a result") from error

    def add(self, attempt: Attempt) -> None:
        """Keep one more."""
        self._attempts.append(attempt)
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(asdict(attempt)) + "\n")

    def of(self, pair: Pair) -> list[Attempt]:
        """The attempts of one pair."""
        return [each for each in self._attempts if (each.one, each.other) == pair]


def _decoded(fields: Mapping[str, object]) -> Attempt:
    one, other, ms, syns, reason = (fields[name] for name in Attempt.__slots__)
    if not (isinstance(one, str) and isinstance(other, str) and isinstance(reason, str)):
        raise TypeError("names and reasons are texts")
    if not (ms is None or isinstance(ms, int | float)):
        raise TypeError("a time is a number")
    if syns is None:
        return Attempt(one, other, ms, None, reason)
    if not (isinstance(syns, list) and [type(count) for count in syns] == [int, int]):
        raise TypeError("SYNs are two numbers")
    return Attempt(one, other, ms, (syns[0], syns[1]), reason)
