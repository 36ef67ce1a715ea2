"""What became of the runs, and its figures.  No I/O but reading and appending a file of results."""

from __future__ import annotations

import csv
import math
import statistics
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

Pair = tuple[str, str]


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


FIELDS = ("first", "second", "milliseconds", "sender's SYNs", "receiver's SYNs", "reason")


class Store:
    """Attempts in a CSV file, so that an interrupted matrix goes on where it was.  Threads may share it."""

    def __init__(self, path: Path | None) -> None:
        """Read what is there; None keeps the attempts in memory only.  Raises `ValueError` for other contents."""
        self._path = path
        self._lock = threading.Lock()
        self._attempts: list[Attempt] = []
        if path is None or not path.exists():
            return
        with path.open(newline="") as file:
            for number, row in enumerate(csv.reader(file), 1):
                try:
                    if number > 1:
                        self._attempts.append(_decoded(row))
                    elif tuple(row) != FIELDS:
                        raise ValueError("no heading")
                except ValueError as error:
                    raise ValueError(f"{path}, line {number}: not a result") from error

    def add(self, attempt: Attempt) -> None:
        """Keep one more."""
        with self._lock:
            self._attempts.append(attempt)
            if self._path is None:
                return
            begins = not self._path.exists()
            with self._path.open("a", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                if begins:
                    writer.writerow(FIELDS)
                writer.writerow(_encoded(attempt))

    def of(self, pair: Pair) -> list[Attempt]:
        """The attempts of one pair."""
        return [each for each in self._attempts if (each.one, each.other) == pair]

    @property
    def pairs(self) -> list[Pair]:
        """The pairs of which there are attempts, in the order of the first ones."""
        return list(dict.fromkeys((each.one, each.other) for each in self._attempts))


def _encoded(attempt: Attempt) -> list[str]:
    ms = "" if attempt.ms is None else f"{attempt.ms:.1f}"
    syns = ["", ""] if attempt.syns is None else [str(count) for count in attempt.syns]
    return [attempt.one, attempt.other, ms, *syns, attempt.reason]


def _decoded(row: Sequence[str]) -> Attempt:
    one, other, ms, sender, receiver, reason = row
    syns = (int(sender), int(receiver)) if sender or receiver else None
    return Attempt(one, other, float(ms) if ms else None, syns, reason)
