"""Runs pairs with both ways of dialling, and makes figures of what came of it."""

from __future__ import annotations

import hashlib
import inspect
import math
import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from p2pxfer.net.session.punching import SHORTEST_S
from scripts.matrixlib.results import percentile
from scripts.poplib import knowledge, mixes, nats, side, world
from scripts.poplib.knowledge import discovered
from scripts.poplib.mixes import MIXES, Case, Mix, draw_pair, label
from scripts.poplib.world import World

AGE_S = 10.0
"""From what the server observed to the introduction, seconds."""
Z = 1.96
"""Standard deviations of a confidence interval of 95 %."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One pair, dialled in one way: seconds from the introduction to the connection or ``None``, and SYNs of both."""

    labels: tuple[str, str]
    met: float | None
    syns: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of many pairs.  Times in seconds, of those that connected; SYNs of both sides, of all."""

    pairs: int
    connected: int
    median: float | None
    p90: float | None
    syns_median: float
    syns_mean: float
    syns_p90: float

    @property
    def share(self) -> float:
        return self.connected / self.pairs

    @property
    def interval(self) -> tuple[float, float]:
        """Within which the share lies with 95 % confidence (Wilson's score interval)."""
        n, share = self.pairs, self.share
        middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
        half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, slots=True)
class Both:
    """The same pairs, dialled as p2pxfer does it and with one dial each."""

    ladder: tuple[Outcome, ...]
    single: tuple[Outcome, ...]


def simulate(mix: Mix, case: Case, pairs: int, seed: int, *, more: bool = False) -> Both:
    """Dial ``pairs`` pairs of a mix; ``more`` adds mapped ports and IPv6.  The same arguments, the same outcomes."""
    ladder: list[Outcome] = []
    single: list[Outcome] = []
    for number in range(pairs):
        key = f"{seed}/{mix.name}/{case}/{more}/{number}"
        pair = draw_pair(mix, case, random.Random(key), more=more)
        # What the server says that it is: the two round trips to it together.
        trip = max(SHORTEST_S, 2 * sum(machine.server for machine in pair.machines))
        labels = (label(pair.machines[0]), label(pair.machines[1]))
        for outcomes, is_single in ((ladder, False), (single, True)):
            modelled = World(
                pair.machines, key, delay=pair.delay, skew=pair.skew, age=AGE_S, known=discovered, news=True,
                round_trip=trip, single=is_single,
            )  # fmt: skip
            met = modelled.run()
            outcomes.append(Outcome(labels, met, sum(side.sent for side in modelled.sides)))
    return Both(tuple(ladder), tuple(single))


class Task(NamedTuple):
    """One cell: the number of the mix, as a mix is made of functions, and what to do with it."""

    mix: int
    case: Case
    more: bool
    pairs: int
    seed: int


def dial(task: Task) -> Both:
    """Do it, here or in another process."""
    return simulate(MIXES[task.mix], task.case, task.pairs, task.seed, more=task.more)


def figures(outcomes: Iterable[Outcome]) -> Figures:
    """The figures of at least one pair."""
    all_of_them = list(outcomes)
    times = [one.met for one in all_of_them if one.met is not None]
    syns = [one.syns for one in all_of_them]
    return Figures(
        len(syns),
        len(times),
        statistics.median(times) if times else None,
        percentile(times, 0.9) if times else None,
        statistics.median(syns),
        statistics.fmean(syns),
        percentile(syns, 0.9),
    )


def by_labels(outcomes: Sequence[Outcome]) -> dict[tuple[str, str], list[Outcome]]:
    """The outcomes of every pair of words, the words in order."""
    found: dict[tuple[str, str], list[Outcome]] = {}
    for one in outcomes:
        first, second = sorted(one.labels)
        found.setdefault((first, second), []).append(one)
    return dict(sorted(found.items()))


def digest() -> str:
    """A hash of everything that is assumed: the shares and mixes, the boxes, and the rules of the world."""
    text = "".join(inspect.getsource(module) for module in (mixes, nats, side, knowledge, world))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
