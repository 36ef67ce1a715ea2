"""Chunks that are written over others in place: which claims fall before that, and which are never made.

A sender whose file changed sends other bytes for chunks that are here.  Between the first of these and the next sync
the journal would claim what is gone, and a sender that has the old bytes again would agree: a mixed file.

Laws:

1. What is written over a claimed chunk is written after the claim was withdrawn, durably.
2. Of what is written twice before it is journalled only the last writing is claimed.
3. Each writing that is noted is followed by exactly one claim, and claims come in the order of the writing; a writing
   that fails is followed by none, and ends the use of the place.
4. Chunks that are written once cost one look, and no call to the system.

While a batch is being journalled nothing of it is replaced: whoever calls :meth:`Overwriting.replace` waits for that.
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.geometry import HASH_SIZE
from p2pxfer.core.transfer.ranges import Range, RangeSet, common


class Overwriting:
    """Of the chunks in ``table``, which holds what the journal claims."""

    def __init__(self, table: ChunkTable) -> None:
        self._table = table
        self._waiting = RangeSet()
        """Chunks that were written and are not journalled."""
        self._replaced: dict[int, int] = {}
        """chunk number -> how many of its next claims are about bytes that are gone."""

    def is_first(self, start: int, stop: int) -> bool:
        """Note that these chunks are about to be written if nothing is claimed or waits there; whether that is so."""
        if any(True for found in (self._table.known, self._waiting) for _ in found.overlap(start, stop)):
            return False
        self._waiting.add(start, stop)
        return True

    def replace(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """These chunks are about to be written over what is there, or beside it: the claims that are to be withdrawn
        before, as (file index, first chunk, the one behind the last).
        """
        for begin, end in self._waiting.overlap(start, stop):
            for number in range(begin, end):
                self._replaced[number] = self._replaced.get(number, 0) + 1
        self._waiting.add(start, stop)
        withdrawn: list[tuple[int, int, int]] = []
        for begin, end in list(self._table.known.overlap(start, stop)):
            withdrawn += self._table.runs(begin, end)
            for number in range(begin, end):
                self._table.forget(number)
        return withdrawn

    @property
    def replaces(self) -> bool:
        """Whether any claim that is still to come is about bytes that are gone."""
        return bool(self._replaced)

    def holding(self, start: int, stop: int) -> list[Range]:
        """What of the next claim to these chunks is still true: it is to be journalled."""
        if not self._replaced:
            return [(start, stop)]
        gone = list(common(range(start, stop), self._replaced))
        for number in gone:
            self._replaced[number] -= 1
            if not self._replaced[number]:
                del self._replaced[number]
        return list(RangeSet((number, number + 1) for number in gone).missing(start, stop))

    def journalled(self, claims: Iterable[tuple[int, int, bytes]]) -> None:
        """The journal claims from now on that each chunk from the first number to before the second has this hash.

        Single chunks that follow one another are taken in together, since most are of small files.
        """
        begin, end, row = 0, 0, bytearray()
        for start, stop, digest in claims:
            if start != end or stop != start + 1:
                self._take_in(begin, bytes(row))
                begin, row = start, bytearray()
            end = stop
            if stop == start + 1:
                row += digest
            else:
                self._table.set_hashes(start, stop, digest)
                self._waiting.remove(start, stop)
                begin = end
        self._take_in(begin, bytes(row))

    def _take_in(self, start: int, digests: bytes) -> None:
        if digests:
            self._table.set_run(start, digests)
            self._waiting.remove(start, start + len(digests) // HASH_SIZE)
