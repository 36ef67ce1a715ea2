"""What became of the runs, and its figures.  No I/O but reading and appending a file of results."""

from __future__ import annotations

import csv
import math
import statistics
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

Pair = tuple[str, str]
Way = Literal["meetings", "programs"]
"""How a run is made: one of many meetings of two programs that stay, or two new programs that move a file."""

RTT_MS = 40
"""Round trip between the two homes unless said otherwise, milliseconds."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is run again and again: two homes, the sender in the first, so many milliseconds of round trip apart."""

    one: str
    other: str
    way: Way = "meetings"
    rtt_ms: int = RTT_MS

    @property
    def pair(self) -> Pair:
        """The homes."""
        return self.one, self.other


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run.

    `ms` is the time from the introduction to the nominated path, None if the run failed; then `reason` says why.
    `tcp_ms` is when the TCP connection of that path stood, None if that is not known.
    `syns` are the bare SYNs that sender and receiver sent to anyone but the server, None if nobody could count them.
    """

    case: Case
    ms: float | None
    tcp_ms: float | None
    syns: tuple[int, int] | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """The figures of one case: times in milliseconds, SYNs of sender and receiver; None where no run gave any."""

    case: Case
    runs: int
    connected: int
    median_ms: float | None
    p90_ms: float | None
    tcp_median_ms: float | None
    tcp_p90_ms: float | None
    syns: tuple[float, float] | None
    times: tuple[float, ...]
    """Of the connected runs, in order."""
    reasons: tuple[str, ...]
    """Of the failed runs, each once, the most frequent first."""


def percentile(values: Sequence[float], share: float) -> float:
    """The least of `values` that at least this share of them does not exceed (nearest rank).

    Raises `ValueError` for no values and for a share outside 0 to 1.
    """
    if not values or not 0 < share <= 1:
        raise ValueError("no such percentile")
    return sorted(values)[math.ceil(share * len(values)) - 1]


def summarize(case: Case, attempts: Iterable[Attempt]) -> Cell:
    """The figures of one case; attempts of others are left out."""
    mine = [each for each in attempts if each.case == case]
    times = [each.ms for each in mine if each.ms is not None]
    tcp = [each.tcp_ms for each in mine if each.tcp_ms is not None]
    syns = [each.syns for each in mine if each.syns is not None]
    reasons = [each.reason for each in mine if each.ms is None]
    return Cell(
        case,
        runs=len(mine),
        connected=len(times),
        median_ms=statistics.median(times) if times else None,
        p90_ms=percentile(times, 0.9) if times else None,
        tcp_median_ms=statistics.median(tcp) if tcp else None,
        tcp_p90_ms=percentile(tcp, 0.9) if tcp else None,
        syns=(statistics.median(s for s, _ in syns), statistics.median(r for _, r in syns)) if syns else None,
        times=tuple(sorted(times)),
        reasons=tuple(sorted(set(reasons), key=lambda reason: (-reasons.count(reason), reason))),
    )


FIELDS = (
    "first", "second", "way", "round trip", "milliseconds", "TCP", "sender's SYNs", "receiver's SYNs", "reason",
)  # fmt: skip


class Store:
    """Attempts in a CSV file, so that an interrupted matrix goes on where it was.  Threads may share it."""

    def __init__(self, path: Path | None) -> None:
        """Read what is there; None keeps the attempts in memory only.  Raises `ValueError` for other contents."""
        self._path = path
        self._lock = threading.Lock()
        self._attempts: dict[Case, list[Attempt]] = {}
        if path is None or not path.exists():
            return
        with path.open(newline="") as file:
            for number, row in enumerate(csv.reader(file), 1):
                try:
                    if number > 1:
                        self._keep(_decoded(row))
                    elif tuple(row) != FIELDS:
                        raise ValueError("no heading")
                except ValueError as error:
                    raise ValueError(f"{path}, line {number}: not a result") from error

    def add(self, attempt: Attempt) -> None:
        """Keep one more."""
        with self._lock:
            self._keep(attempt)
            if self._path is None:
                return
            begins = not self._path.exists()
            with self._path.open("a", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                if begins:
                    writer.writerow(FIELDS)
                writer.writerow(_encoded(attempt))

    def _keep(self, attempt: Attempt) -> None:
        self._attempts.setdefault(attempt.case, []).append(attempt)

    def of(self, case: Case) -> list[Attempt]:
        """The attempts of one case."""
        return list(self._attempts.get(case, ()))

    @property
    def cases(self) -> list[Case]:
        """What there are attempts of, in the order of the first ones."""
        return list(self._attempts)


def _encoded(attempt: Attempt) -> list[str]:
    case = attempt.case
    times = ["" if time is None else f"{time:.1f}" for time in (attempt.ms, attempt.tcp_ms)]
    syns = ["", ""] if attempt.syns is None else [str(count) for count in attempt.syns]
    return [case.one, case.other, case.way, str(case.rtt_ms), *times, *syns, attempt.reason]


def _decoded(row: Sequence[str]) -> Attempt:
    one, other, way, rtt, ms, tcp, sender, receiver, reason = row
    if way not in get_args(Way):
        raise ValueError("no such way")
    syns = (int(sender), int(receiver)) if sender or receiver else None
    case = Case(one, other, cast(Way, way), int(rtt))
    return Attempt(case, float(ms) if ms else None, float(tcp) if tcp else None, syns, reason)
