"""Sets of integers as few half-open ranges: which chunks are here, which were acknowledged.

Law: the ranges are sorted, none is empty, and between two neighbours at least one integer is missing.  So two equal
sets have equal ranges, and a place is found by bisection.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator

Range = tuple[int, int]
"""(first, behind last)."""


class RangeSet:
    """A mutable set of integers; iteration gives its :data:`Range` items in ascending order."""

    __slots__ = ("_starts", "_stops", "_total")
    __hash__ = None  # type: ignore[assignment]  # mutable; typeshed declares a method for every object

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        """The union of ``ranges``, in any order.

        Raises:
            ValueError: a range ends before it starts.
        """
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._total = 0
        for start, stop in ranges:
            self.add(start, stop)

    @property
    def total(self) -> int:
        """How many integers are in the set."""
        return self._total

    def __iter__(self) -> Iterator[Range]:
        return zip(self._starts, self._stops, strict=True)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._starts, number) - 1
        return at >= 0 and number < self._stops[at]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeSet):
            return NotImplemented
        return self._starts == other._starts and self._stops == other._stops

    def __repr__(self) -> str:
        return f"RangeSet({self.to_list()!r})"

    def to_list(self) -> list[Range]:
        """The ranges as a list; ``RangeSet(items.to_list()) == items``."""
        return list(self)

    def contains(self, start: int, stop: int) -> bool:
        """Whether every integer of ``[start, stop)`` is in the set."""
        if start >= stop:
            return True
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and stop <= self._stops[at]

    def add(self, start: int, stop: int) -> None:
        """Put ``[start, stop)`` in; what is in already stays.

        Raises:
            ValueError: the range ends before it starts.
        """
        if not _is_proper(start, stop):
            return
        if self._stops and start == self._stops[-1]:  # what is filled in order, which most sets are
            self._stops[-1] = stop
            self._total += stop - start
            return
        first = bisect_left(self._stops, start)
        behind = bisect_right(self._starts, stop)
        if first < behind:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[behind - 1])
        self._replace(first, behind, [(start, stop)])

    def remove(self, start: int, stop: int) -> None:
        """Take ``[start, stop)`` out; what is not in is ignored.

        Raises:
            ValueError: the range ends before it starts.
        """
        if not _is_proper(start, stop):
            return
        first, behind = self._touched(start, stop)
        if first >= behind:
            return
        rest = [(self._starts[first], start), (stop, self._stops[behind - 1])]
        self._replace(first, behind, [(a, b) for a, b in rest if a < b])

    def overlap(self, start: int, stop: int) -> Iterator[Range]:
        """What the set and ``[start, stop)`` have in common, as ranges."""
        for at in range(*self._touched(start, stop)):
            yield max(start, self._starts[at]), min(stop, self._stops[at])

    def missing(self, start: int, stop: int) -> Iterator[Range]:
        """What of ``[start, stop)`` is not in the set, as ranges."""
        for begin, end in self.overlap(start, stop):
            if start < begin:
                yield start, begin
            start = end
        if start < stop:
            yield start, stop

    def _touched(self, start: int, stop: int) -> Range:
        """Positions of the ranges that have an integer in common with ``[start, stop)``, which may be empty."""
        if start >= stop:
            return 0, 0
        return bisect_right(self._stops, start), bisect_left(self._starts, stop)

    def _replace(self, first: int, behind: int, ranges: list[Range]) -> None:
        for at in range(first, behind):
            self._total -= self._stops[at] - self._starts[at]
        self._starts[first:behind] = [start for start, _ in ranges]
        self._stops[first:behind] = [stop for _, stop in ranges]
        self._total += sum(stop - start for start, stop in ranges)


def common(numbers: range, among: Collection[int]) -> Iterator[int]:
    """Each of ``numbers`` that is ``among`` others, in any order: looks at the range or at these, whichever is fewer.

    So what many ranges that do not overlap have in common with one collection costs no look at all of it for each.
    """
    if len(numbers) <= len(among):
        return (number for number in numbers if number in among)
    return (number for number in among if number in numbers)


def _is_proper(start: int, stop: int) -> bool:
    """True for a range with something in it, False for an empty one."""
    if start > stop:
        raise ValueError(f"the range [{start}, {stop}) ends before it starts")
    return start < stop
