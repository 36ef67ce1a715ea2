"""The chunks of one transfer as its sender sees them: missing, held, under way on a path, or acknowledged.

Laws of this file:

1. A chunk is *missing*, *held* (taken out to be read or sent), *under way* on one path, or *acknowledged*; or it is
   *left out* with its file, and stays so whatever is said of it.  What is *put off* is not missing for as long.
2. A path that is lost gives back what was under way on it, and nowhere else.  Nothing else is ever lost.
3. When all is listed, and nothing is missing or held any more, a path on which nothing is under way takes over what
   another one is slow with: the newest chunk where more than one waits, or one that was sent before a chunk that this
   path has delivered already.
   A chunk is under way on two paths at most, so no more than what was under way is sent twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import merge

from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.holes import HoleTeller
from p2pxfer.core.transfer.ranges import Range, RangeSet


class Outflow:
    """The chunks of ``table``, by number; those in ``holes`` are never sent."""

    def __init__(self, table: ChunkTable, holes: HoleTeller) -> None:
        self._table = table
        self.limit = 0
        """Chunks from this number on are not missing yet: the receiver does not know their files."""
        self._holes = holes
        self.acked = RangeSet()
        self.acked_bytes = 0
        self._left = RangeSet()
        self._put_off = RangeSet()
        self._held: set[int] = set()
        self._under_way: dict[int, tuple[int, int]] = {}
        """Of each chunk its path, and when it was sent, as a number that grows."""
        self._missing: deque[int] = deque()
        self._next = 0
        self._turn = 0
        self._overtaken: dict[int, int] = {}
        """When the newest chunk was sent that a path has delivered."""
        self._first: dict[int, tuple[int, int]] = {}
        """Of each chunk that was taken over: the path on which it is under way as well, and when it was sent there."""

    # -- out -----------------------------------------------------------------------------------------------------

    def take(self) -> int | None:
        """Take the next missing chunk out; ``None`` when nothing is missing now."""
        number = self._next_missing()
        if number is not None:
            self._held.add(number)
        return number

    def _next_missing(self) -> int | None:
        while self._missing:
            number = self._missing.popleft()
            if self._is_missing(number):
                return number
        while self._next < self.limit:
            number = self._next
            self._next += 1
            if self._is_missing(number):
                return number
        return None

    def _is_missing(self, number: int) -> bool:
        there = number in self.acked or number in self._held or number in self._under_way
        return not there and not any(number in none for none in (self._holes, self._left, self._put_off))

    def take_over(self, path: int) -> int | None:
        """Take out a chunk that is under way elsewhere, for ``path``; see law 3."""
        rest = self._missing or self._held or self._next < self._table.total or not self._table.complete
        if rest or any(carrier == path for carrier, _ in self._under_way.values()):
            return None
        number = max(self._late(path), key=lambda late: self._under_way[late][1], default=None)
        if number is not None:
            self._held.add(number)
        return number

    def _late(self, path: int) -> Iterator[int]:
        waiting: dict[int, int] = {}
        for carrier, _ in self._under_way.values():
            waiting[carrier] = waiting.get(carrier, 0) + 1
        overtaken = self._overtaken.get(path, -1)
        for number, (carrier, turn) in self._under_way.items():
            fresh = number not in self._first and number not in self._held
            if fresh and (waiting[carrier] > 1 or turn < overtaken):
                yield number

    def sent(self, number: int, path: int, *, alive: bool) -> None:
        """A chunk that was taken out was written to ``path``, which is ``alive`` or was lost meanwhile."""
        self._held.discard(number)
        if number in self.acked or number in self._left:
            return
        if alive:
            self._turn += 1
            if number in self._under_way:
                self._first[number] = self._under_way[number]
            self._under_way[number] = (path, self._turn)
        elif number not in self._under_way:
            self._missing.appendleft(number)

    def put_back(self, number: int) -> None:
        """A chunk that was taken out is not sent after all: it is missing, or under way where it was before."""
        self._held.discard(number)
        if self._is_missing(number):
            self._missing.appendleft(number)

    def wants(self, number: int, path: int) -> bool:
        """Whether it is of use to send a chunk that was taken out on ``path``."""
        settled = number in self.acked or number in self._left
        return not settled and self._under_way.get(number, (None, 0))[0] != path

    def is_idle(self, path: int) -> bool:
        """Nothing is under way on ``path``, nor was taken over from it and may still arrive first."""
        return all(carrier != path for chunks in (self._under_way, self._first) for carrier, _ in chunks.values())

    # -- what became of them -------------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether all chunks are acknowledged, apart from those that are left out."""
        return self.acked.total + self._left.total == self._table.total

    def settled(self) -> RangeSet:
        """The chunks of which nothing more is to be said; it takes as long as there are ranges of them."""
        return RangeSet(merge(self.acked, self._left)) if self._left.total else self.acked

    def put_off(self, begin: int, end: int) -> None:
        """The chunks from ``begin`` to before ``end`` are not to be read before :meth:`resume`."""
        self._put_off.add(begin, end)
        self._held.difference_update(range(begin, end))

    def resume(self, begin: int, end: int) -> None:
        """They were all claimed, or are left out now."""
        self._put_off.remove(begin, end)

    def leave_out(self, begin: int, end: int) -> None:
        """The chunks from ``begin`` to before ``end`` do not come."""
        for start, stop in list(self.acked.overlap(begin, end)):
            self.acked.remove(start, stop)
            self.acked_bytes -= self._table.bytes_in(start, stop)
        self._left.add(begin, end)
        for number in range(begin, end):
            self._held.discard(number)
            self._under_way.pop(number, None)
            self._first.pop(number, None)

    def wanted(self, begin: int, end: int) -> Iterator[Range]:
        """The chunks from ``begin`` to before ``end`` without those that are left out."""
        return self._left.missing(begin, end)

    def lost(self, path: int) -> None:
        """The path is gone: what was on its way there is missing again."""
        self._overtaken.pop(path, None)
        self._first = {number: first for number, first in self._first.items() if first[0] != path}
        back = [number for number, (carrier, _) in self._under_way.items() if carrier == path]
        for number in back:
            del self._under_way[number]
            if number in self._first:
                self._under_way[number] = self._first.pop(number)
        self._missing.extendleft(number for number in reversed(back) if number not in self._under_way)

    def acknowledge(self, begin: int, end: int, path: int) -> None:
        """The receiver has the chunks from ``begin`` to before ``end``, as it says on ``path``."""
        for start, stop in [part for gap in self.acked.missing(begin, end) for part in self.wanted(*gap)]:
            self.acked.add(start, stop)
            self.acked_bytes += self._table.bytes_in(start, stop)
            for number in range(start, stop) if self._under_way else ():
                self._delivered(number, path)

    def _delivered(self, number: int, path: int) -> None:
        carrier, turn = self._under_way.pop(number, (None, 0))
        self._first.pop(number, None)
        if carrier == path:
            self._overtaken[path] = max(turn, self._overtaken.get(path, 0))

    def lacking(self, number: int, path: int | None = None) -> None:
        """What came of it on ``path``, or on all paths, was of no use: it is not under way there any more."""
        ways = [way for way in (self._first.pop(number, None), self._under_way.pop(number, None)) if way is not None]
        left = [way for way in ways if path not in (None, way[0])]
        if left:
            self._under_way[number] = left.pop()
        if left:
            self._first[number] = left.pop()
        if self._is_missing(number):
            self._missing.appendleft(number)

    def refute(self, begin: int, end: int) -> None:
        """The receiver was believed to have these, and has not."""
        for start, stop in list(self.acked.overlap(begin, end)):
            self.acked.remove(start, stop)
            self.acked_bytes -= self._table.bytes_in(start, stop)
            for number in range(start, stop):
                self._holes.give_up(number)
                self._missing.append(number)

    def forget_acknowledged(self) -> None:
        """Another process receives now: only what it claims is there."""
        self.acked = RangeSet()
        self.acked_bytes = 0
        self._missing.clear()
        self._next = self.limit = 0
