"""Range sets against plain sets of integers."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pxfer.core.transfer.ranges import Range, RangeSet, common

N = 40
SPANS = st.tuples(st.integers(0, N), st.integers(0, N)).map(lambda pair: (min(pair), max(pair)))
CHANGES = st.lists(st.tuples(st.sampled_from(["add", "remove"]), SPANS), max_size=30)

Changes = list[tuple[str, Range]]


def integers(ranges: Iterable[Range]) -> set[int]:
    return {number for start, stop in ranges for number in range(start, stop)}


def build(changes: Changes) -> tuple[RangeSet, set[int]]:
    ranges = RangeSet()
    model: set[int] = set()
    for change, span in changes:
        if change == "add":
            ranges.add(*span)
            model |= set(range(*span))
        else:
            ranges.remove(*span)
            model -= set(range(*span))
    return ranges, model


@given(CHANGES)
def test_behaves_like_a_set(changes: Changes) -> None:
    ranges, model = build(changes)
    assert integers(ranges) == model
    assert ranges.total == len(model)
    assert [number in ranges for number in range(-1, N + 2)] == [number in model for number in range(-1, N + 2)]


@given(CHANGES)
def test_is_sorted_and_joined(changes: Changes) -> None:
    listed = build(changes)[0].to_list()
    assert all(start < stop for start, stop in listed)
    assert all(stop < start for (_, stop), (start, _) in pairwise(listed))


@given(CHANGES, SPANS)
def test_parts(changes: Changes, span: Range) -> None:
    ranges, model = build(changes)
    window = set(range(*span))
    overlap, missing = list(ranges.overlap(*span)), list(ranges.missing(*span))
    assert integers(overlap) == model & window
    assert integers(missing) == window - model
    assert all(start < stop for start, stop in overlap + missing)
    assert ranges.contains(*span) == (window <= model)


@given(CHANGES, CHANGES)
def test_equality_is_that_of_sets(one: Changes, other: Changes) -> None:
    first, second = build(one), build(other)
    assert (first[0] == second[0]) == (first[1] == second[1])
    assert RangeSet(reversed(first[0].to_list())) == first[0]


def test_neighbours_are_joined() -> None:
    ranges = RangeSet([(0, 2), (4, 6)])
    ranges.add(2, 4)
    assert ranges.to_list() == [(0, 6)]


def test_a_hole_in_the_middle() -> None:
    ranges = RangeSet([(0, 10)])
    ranges.remove(3, 5)
    assert ranges.to_list() == [(0, 3), (5, 10)]
    assert repr(ranges) == "RangeSet([(0, 3), (5, 10)])"


def test_a_reversed_range_is_an_error() -> None:
    ranges = RangeSet([(1, 2)])
    for change in (ranges.add, ranges.remove):
        with pytest.raises(ValueError, match="ends before it starts"):
            change(5, 4)
    assert ranges.to_list() == [(1, 2)]


def test_is_not_hashable_and_equals_nothing_else() -> None:
    with pytest.raises(TypeError):
        hash(RangeSet())
    assert RangeSet() != []


def test_many_ranges_stay_fast() -> None:
    ranges = RangeSet((number, number + 1) for number in range(0, 200_000, 2))
    assert ranges.total == 100_000
    for number in range(1, 200_000, 2):
        ranges.add(number, number + 1)
    assert ranges.to_list() == [(0, 200_000)]


@given(st.integers(0, 40), st.integers(0, 40), st.sets(st.integers(0, 40)))
def test_what_a_range_and_a_collection_have_in_common(start: int, stop: int, among: set[int]) -> None:
    found = list(common(range(start, stop), among))
    assert sorted(found) == sorted(among & set(range(start, stop)))
