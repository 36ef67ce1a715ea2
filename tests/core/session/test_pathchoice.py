"""The choice between live paths, against a model of paths with true rates that nobody but the model knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from p2pxfer.core.session.pathchoice import FRESH_S, HOLD_S, MARGIN, PathChoice

MIB = 1024 * 1024
DIRECT, RELAY = 2, 5


@dataclass
class Line:
    """Paths that drain what they are given at their true rate, and a source that fills the chosen one."""

    rates: dict[int, float]
    choice: PathChoice = field(default_factory=PathChoice)
    now: float = 0.0
    switches: list[tuple[float, int]] = field(default_factory=list)
    source: float = float("inf")

    def add(
        self, path: int, rank: int, rate: float, trip: float = 0.02, *, group: int = 0, spare: bool = False
    ) -> None:
        self.rates[path] = rate
        self.choice.add(path, rank, group=group, spare=spare)
        self.choice.trip(path, trip)

    def first(self) -> int | None:
        path = next(iter(self.choice.ordered(self.now)), None)
        if path is not None and (not self.switches or self.switches[-1][1] != path):
            self.switches.append((self.now, path))
        return path

    def fill(self, path: int, seconds: float) -> None:
        """This path is full for so long."""
        self.choice.carried(path, int(self.rates[path] * seconds), True, self.now)
        self.now += seconds
        self.choice.room(path, self.now)

    def run(self, seconds: float, block: int = MIB) -> None:
        """Fill the path in use; a source slower than the path lets it stand idle in between."""
        end = self.now + seconds
        while self.now < end:
            path = self.first()
            if path is None:
                self.now = end
                return
            begin, size = self.now, min(block, int(self.rates[path] / 4))
            self.choice.carried(path, size, True, begin)
            self.now = begin + size / self.rates[path]
            self.choice.room(path, self.now)
            self.now = max(self.now, begin + size / self.source)


def test_a_better_kind_is_used_at_once_and_the_relay_again_when_it_is_gone() -> None:
    line = Line({})
    line.add(1, RELAY, 8 * MIB)
    line.run(0.1)
    line.add(2, DIRECT, 9 * MIB)
    assert line.first() == 2
    line.run(30)
    line.choice.remove(2)
    assert line.first() == 1
    assert [path for _, path in line.switches] == [1, 2, 1]


def test_a_newer_path_of_the_same_kind_is_used_at_once() -> None:
    choice = PathChoice()
    choice.add(3, DIRECT)
    assert list(choice.ordered(0)) == [3]
    choice.add(7, DIRECT)
    choice.add(5, RELAY)
    assert list(choice.ordered(0)) == [7, 3, 5]


def test_a_slow_direct_path_is_left_for_a_fast_relay_after_a_while_and_for_long() -> None:
    line = Line({})
    line.add(1, RELAY, 20 * MIB)
    line.run(3)
    line.add(2, DIRECT, MIB)
    line.run(300)
    (_, first), (tried, second), (left, third), *later = line.switches
    assert (first, second, third) == (1, 2, 1)
    assert HOLD_S <= left - tried < 3 * HOLD_S
    # Tried again when the measurement has grown old, and more seldom each time.
    trials = [tried, *(at for at, path in later if path == 2)]
    assert 2 <= len(trials) <= 4
    pauses = [b - a for a, b in pairwise(trials)]
    assert pauses[0] > FRESH_S
    assert pauses == sorted(pauses)


def test_a_direct_path_that_is_as_good_is_not_left() -> None:
    line = Line({})
    line.add(1, RELAY, 12 * MIB)
    line.run(3)
    line.add(2, DIRECT, 10 * MIB)
    line.run(120)
    assert [path for _, path in line.switches] == [1, 2]


def test_a_path_that_becomes_slow_is_left_for_one_that_was_measured_lately() -> None:
    line = Line({})
    line.add(1, RELAY, 10 * MIB)
    line.run(3)
    line.add(2, DIRECT, 30 * MIB)
    line.run(20)
    line.rates[2] = MIB / 2
    line.run(20)
    assert line.first() == 1


def test_a_slow_source_moves_nothing() -> None:
    """A direct path at the pace of the disk is not a slow path."""
    line = Line({})
    line.add(1, RELAY, 20 * MIB)
    line.run(3)
    line.add(2, DIRECT, 15 * MIB)
    line.source = MIB
    line.run(100)
    assert [path for _, path in line.switches] == [1, 2]


def test_a_detour_is_not_tried_for_its_kind() -> None:
    line = Line({})
    line.add(1, RELAY, 10 * MIB, trip=0.03)
    line.run(1)
    line.add(2, DIRECT, 10 * MIB, trip=0.6)
    assert line.first() == 1
    line.choice.trip(2, 0.15)
    assert line.first() == 2


def everything(path: int) -> bool:
    return True


def test_connections_of_one_group_carry_together_and_are_compared_together() -> None:
    """Three connections with a third of the line each are no worse than the one before them."""
    line = Line({})
    line.add(1, RELAY, 12 * MIB, spare=True)
    line.run(3)
    line.add(2, DIRECT, 4 * MIB)
    assert line.first() == 2
    for path in (3, 4):
        line.add(path, DIRECT, 4 * MIB, group=2)
    assert line.choice.carriers(line.now, everything) == [2, 4, 3]
    for _ in range(40):
        for path in (2, 3, 4):
            line.fill(path, 1.0)
        assert line.first() == 2
    line.choice.remove(2)
    assert line.choice.carriers(line.now, everything) == [4, 3]


def test_a_spare_carries_only_while_what_is_there_is_clearly_worse_and_then_not_alone() -> None:
    line = Line({})
    line.add(1, RELAY, 20 * MIB, spare=True)
    line.run(3)
    assert line.choice.carriers(line.now, everything) == [1]
    line.add(2, DIRECT, 4 * MIB)
    assert line.choice.carriers(line.now, everything) == [2]
    assert line.choice.carriers(line.now, lambda path: path == 1) == [1], "the direct path cannot be used yet"
    line.run(20)
    assert line.choice.carriers(line.now, everything) == [1, 2]
    line.rates[2] = 1 * MIB
    for _ in range(10):
        line.fill(2, 1.0)
        line.fill(1, 1.0)
    assert line.choice.carriers(line.now, everything) == [1], "it delivers too little to be waited for at the end"


def test_paths_of_several_kinds_carry_at_once() -> None:
    line = Line({})
    line.add(1, 0, 4 * MIB)
    line.add(2, DIRECT, 3 * MIB)
    line.add(3, RELAY, 3 * MIB, spare=True)
    line.add(4, DIRECT, 3 * MIB, trip=0.9)
    assert line.choice.carriers(line.now, everything) == [1, 2]


def test_unknown_paths_and_none_at_all() -> None:
    choice = PathChoice()
    assert list(choice.ordered(0)) == []
    choice.remove(9)
    choice.carried(9, 1, True, 0)
    choice.room(9, 1)
    assert list(choice.ordered(0)) == []


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 5), st.sampled_from([0.2, 1.0, 5.0, 25.0])),
        st.tuples(st.just("remove"), st.integers(0, 9), st.just(0.0)),
        st.tuples(st.just("rate"), st.integers(0, 9), st.sampled_from([0.2, 1.0, 5.0, 25.0])),
        st.tuples(st.just("run"), st.integers(1, 40), st.just(0.0)),
    ),
    max_size=14,
)


@settings(max_examples=50, deadline=None)
@given(steps)
def test_whatever_comes_a_live_path_is_first_and_all_are_named_once(program: list[tuple[str, int, float]]) -> None:
    line, number = Line({}), 0
    for what, size, rate in program:
        up = sorted(line.rates)
        if what == "add":
            number += 1
            line.add(number, size, rate * MIB)
        elif what == "run":
            line.run(size)
        elif up:
            path = up[size % len(up)]
            if what == "rate":
                line.rates[path] = rate * MIB
            else:
                del line.rates[path]
                line.choice.remove(path)
        assert sorted(line.choice.ordered(line.now)) == sorted(line.rates)


@settings(max_examples=40, deadline=None)
@example([(0, 2.0), (0, 1.0), (0, 1.0)])
@example([(0, 8.0), (0, 6.0), (0, 5.0)])
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0.2, 16.0)), min_size=1, max_size=4))
def test_steady_paths_are_not_taken_in_turns(paths: list[tuple[int, float]]) -> None:
    """Under constant rates the choice settles: few changes, and no time on a bad path but for trials.

    Each path that is kept may be worse by the margin than the one before it.
    """
    line = Line({})
    for number, (rank, rate) in enumerate(paths, 1):
        line.add(number, rank, rate * MIB)
        line.run(5)
    line.run(400)
    assert len(line.switches) <= 4 + 8 * len(paths)
    last = line.first()
    assert last is not None
    measured = {path for _, path in line.switches}
    best = max(line.rates[path] for path in measured)
    on_good = sum(
        until - since
        for (since, path), (until, _) in zip(line.switches, [*line.switches[1:], (line.now, 0)], strict=True)
        if line.rates[path] >= 0.9 * MARGIN ** max(1, len(paths) - 1) * best
    )
    assert on_good > 0.8 * 400


@pytest.mark.parametrize("rank", [DIRECT, RELAY])
def test_one_path_alone_is_used_whatever_it_delivers(rank: int) -> None:
    line = Line({})
    line.add(1, rank, 1000.0)
    line.run(50, block=1000)
    assert line.first() == 1
