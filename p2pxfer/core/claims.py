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


def claimed(table: ChunkTable, have: Have) -> list[int]:
    """The numbers of the chunks that a receiver claims to hold.

    Raises:
        ChunkRefused: they are not part of the file, or not in order.
    """
    first, stop = table.file_range(have.file)
    numbers: list[int] = []
    for begin, end in have.ranges:
        if not begin < end <= stop - first or (numbers and first + begin <= numbers[-1]):
            raise ChunkRefused("the receiver claims chunks that are not part of the file")
        numbers.extend(range(first + begin, first + end))
    return numbers


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
