"""The choice between live paths, against a model of paths with true rates that nobody but the model knows."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from p2pxfer.core.session.pathchoice import FRESH_S, HOLD_S, MARGIN, SLOW, STUCK_S, TRIAL_S, PathChoice

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
        path = next(iter(self.choice.ordered(self.now, everything)), None)
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


def test_a_relay_that_carried_nothing_is_tried_beside_a_slow_direct_path_and_kept_if_it_is_better() -> None:
    """Until the direct path is tried again and has become a good one."""
    line = Line({})
    line.add(1, RELAY, 4 * MIB, spare=True)
    line.add(2, DIRECT, SLOW / 2)
    line.run(100)
    (_, first), (tried, second), *later = line.switches
    assert (first, second) == (2, 1)
    assert HOLD_S <= tried < 4 * HOLD_S
    assert len(later) <= 2
    assert line.first() == 1
    line.rates[2] = 8 * MIB
    line.run(2 * FRESH_S)
    assert line.first() == 2


@pytest.mark.parametrize("relayed", [0.3, 1.0, 1.4])
def test_a_relay_that_is_no_better_than_a_slow_direct_path_has_few_short_trials(relayed: float) -> None:
    """The slow line may be the one of the house: then the server is not burdened with it."""
    line = Line({})
    line.add(1, RELAY, relayed * SLOW / 2, spare=True)
    line.add(2, DIRECT, SLOW / 2)
    line.run(1200)
    ends = [*line.switches[1:], (line.now, 0)]
    on_relay = sum(until - since for (since, path), (until, _) in zip(line.switches, ends, strict=True) if path == 1)
    assert 3 <= len(line.switches) <= 15
    assert on_relay < 0.03 * line.now


def test_a_relay_is_not_tried_beside_a_direct_path_that_is_not_slow() -> None:
    line = Line({})
    line.add(1, RELAY, 100 * MIB, spare=True)
    line.add(2, DIRECT, 1.2 * SLOW)
    line.run(300)
    assert [path for _, path in line.switches] == [2]


def test_a_relay_on_trial_carries_alone_and_one_that_takes_nothing_is_left() -> None:
    line = Line({})
    line.add(1, RELAY, MIB, spare=True)
    line.add(2, DIRECT, SLOW / 2)
    while line.first() == 2:
        line.fill(2, 0.5)
    assert line.choice.carriers(line.now, everything) == [1]
    line.choice.carried(1, MIB, True, line.now)
    line.now += STUCK_S - 0.1
    assert line.first() == 1
    line.now += 0.2
    assert line.first() == 2
    line.run(FRESH_S / 2)
    assert line.first() == 2


def test_a_relay_that_cannot_be_used_is_not_tried_until_it_can() -> None:
    """Nor by whoever only looks: the connections of the path that carries are then looked after all the time."""
    line = Line({2: SLOW / 2})
    line.add(1, RELAY, 4 * MIB, spare=True)
    line.add(2, DIRECT, SLOW / 2)
    for _ in range(200):
        assert line.choice.carriers(line.now, lambda path: path == 2) == [2]
        assert list(line.choice.ordered(line.now)) == [2, 1]
        line.fill(2, 0.5)
    assert line.choice.carriers(line.now, everything) == [1]
    assert list(line.choice.ordered(line.now)) == [1, 2]


def test_a_trial_that_shows_nothing_ends_and_the_next_ones_are_more_and_more_seldom() -> None:
    """A source that the direct path can hardly follow never fills the relay."""
    line = Line({})
    line.add(1, RELAY, 4 * MIB, spare=True)
    line.add(2, DIRECT, SLOW / 4)
    while line.now < 1200:
        if line.first() == 2:
            line.fill(2, 0.25)
        else:
            line.choice.carried(1, SLOW // 16, False, line.now)
            line.now += 0.25
    trials = [(since, until) for (since, path), (until, _) in pairwise(line.switches) if path == 1]
    assert 3 <= len(trials) <= 6
    assert all(until - since <= TRIAL_S + 0.5 for since, until in trials)
    pauses = [after[0] - before[1] for before, after in pairwise(trials)]
    assert pauses[0] >= FRESH_S
    assert all(after >= 1.9 * before for before, after in pairwise(pauses))


def test_a_direct_path_whose_buffers_take_long_to_drain_is_known_to_be_slow_before_they_have() -> None:
    line = Line({})
    line.add(1, RELAY, MIB, spare=True)
    line.add(2, DIRECT, 0)
    line.choice.carried(2, 4 * SLOW, True, 0.0)
    while line.first() == 2 and line.now < 60:
        line.now += 0.2
    assert 4 + HOLD_S <= line.now < 6 + HOLD_S


@pytest.mark.parametrize("gone", [1, 2])
def test_a_trial_ends_with_either_path(gone: int) -> None:
    line = Line({})
    line.add(1, RELAY, MIB, spare=True)
    line.add(2, DIRECT, SLOW / 2)
    while line.first() == 2:
        line.run(0.5)
    line.choice.remove(gone)
    assert line.first() == 3 - gone
    line.add(4, DIRECT, MIB)
    assert line.choice.carriers(line.now, everything)[0] == 4


@pytest.mark.parametrize("spare", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_two_paths_that_are_nearly_alike_and_unsteady_are_hardly_ever_changed(seed: int, spare: bool) -> None:
    """What each delivers jumps by two fifths up and down with each block, for twenty minutes."""
    draw = random.Random(seed)
    line = Line({})
    true = {1: 10 * MIB, 2: 9 * MIB}
    line.add(1, RELAY, true[1], spare=spare)
    line.run(3)
    line.add(2, DIRECT, true[2])
    while line.now < 1200:
        line.rates = {path: rate * draw.uniform(0.6, 1.4) for path, rate in true.items()}
        line.run(0.05)
    assert len(line.switches) <= 4
    assert line.first() == 2


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
