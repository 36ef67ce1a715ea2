"""What a receiver holds, in the forms in which it says so: runs of chunks, and claims with their digests."""

from __future__ import annotations

from collections.abc import Iterator

from p2pxfer.core.chunktable import ChunkAddress, ChunkTable
from p2pxfer.core.geometry import claim_digest
from p2pxfer.core.ranges import RangeSet
from p2pxfer.core.wire import Have
from p2pxfer.errors import ChunkRefused

RANGES_PER_HAVE = 256
HAVE_PER_MESSAGE = 64
RANGES_PER_MESSAGE = 4096
"""With the claims around them they always fit into a message: 11 bytes each at most."""


def pages(table: ChunkTable, have: RangeSet) -> list[list[Have]]:
    """The claims to the chunks in ``have`` of ``table``, file by file, in portions for one message each.

    There is at least one portion, which may be empty.
    """
    cut: list[list[Have]] = [[]]
    ranges = 0
    for claim in _claims(table, have) if have.total else ():
        ranges += len(claim.ranges)
        if len(cut[-1]) == HAVE_PER_MESSAGE or ranges > RANGES_PER_MESSAGE:
            cut.append([])
            ranges = len(claim.ranges)
        cut[-1].append(claim)
    return cut


def _claims(table: ChunkTable, have: RangeSet) -> Iterator[Have]:
    for file in range(table.files):
        first, stop = table.file_range(file)
        ranges = [(a - first, b - first) for a, b in have.overlap(first, stop)]
        for at in range(0, len(ranges), RANGES_PER_HAVE):
            part = ranges[at : at + RANGES_PER_HAVE]
            hashes = [table.hash(first + index) for a, b in part for index in range(a, b)]
            yield Have(file=file, ranges=part, digest=claim_digest(hashes))


class ClaimList:
    """The claims of a receiver on one path, over all messages: ascending, so no more than there are chunks."""

    def __init__(self, table: ChunkTable) -> None:
        self._table = table
        self._end = 0
        self.claims: list[Have] = []

    def add(self, claims: list[Have]) -> None:
        """Those of one more message.

        Raises:
            ChunkRefused: they are not part of their files, not in order, or empty.
        """
        for have in claims:
            first, stop = self._table.file_range(have.file)
            for begin, end in have.ranges:
                if not begin < end <= stop - first or first + begin < self._end:
                    raise ChunkRefused("the receiver claims chunks that are not part of the file, or out of order")
                self._end = first + end
            if not have.ranges:
                raise ChunkRefused("the receiver claims no chunk at all")
            self.claims.append(have)


def claimed(table: ChunkTable, have: Have) -> list[int]:
    """The numbers of the chunks that a receiver claims to hold, in a claim that a :class:`ClaimList` took."""
    first, _ = table.file_range(have.file)
    return [first + index for begin, end in have.ranges for index in range(begin, end)]


def runs(addresses: list[ChunkAddress]) -> Iterator[tuple[int, int, int]]:
    """Join neighbouring chunks into (file, first, behind last)."""
    file, start, stop = -1, 0, 0
    for here, index in sorted(addresses):
        if here == file and index <= stop:
            stop = max(stop, index + 1)
            continue
        if stop > start:
            yield file, start, stop
        file, start, stop = here, index, index + 1
    if stop > start:
        yield file, start, stop
