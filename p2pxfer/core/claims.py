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


def pages(table: ChunkTable, have: RangeSet) -> list[list[Have]]:
    """The claims to the chunks in ``have`` of ``table``, file by file, in portions for one message each.

    There is at least one portion, which may be empty.
    """
    claims = list(_claims(table, have)) if have.total else []
    return [claims[at : at + HAVE_PER_MESSAGE] for at in range(0, len(claims), HAVE_PER_MESSAGE)] or [[]]


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
