"""What a receiver holds, in the forms in which it says so: ranges of chunk numbers, and claims with their digests.

Law: a claim is proved as a whole, and so not at all by a sender that cannot read a file of it.  So it is about chunks
of one file, or of files beside one another that have :data:`SMALL_CHUNKS` together: no more than these come again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from p2pxfer.core.session.transferwire import Have
from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.ranges import Range, RangeSet
from p2pxfer.errors import ChunkRefused, ProtocolBreach

SMALL_CHUNKS = 64
"""Files that have fewer chunks have small ones: 4 MiB in all.  A claim takes the room of two entries of the list."""
RANGES_PER_HAVE = 256
RANGES_PER_MESSAGE = 2048
HAVE_PER_MESSAGE = 256
"""So a message always fits: a range takes 20 bytes at most, and a claim 60 beside its ranges."""


def claims(table: ChunkTable, have: RangeSet, start: int, stop: int) -> list[list[Have]]:
    """The claims to the chunks in ``have`` from ``start`` to before ``stop``, in portions for one message each.

    There is at least one portion, which may be empty.
    """
    portions: list[list[Have]] = [[]]
    told = 0
    for ranges in _provable(table, have.overlap(start, stop)):
        told += len(ranges)
        if told > RANGES_PER_MESSAGE or len(portions[-1]) == HAVE_PER_MESSAGE:
            portions.append([])
            told = len(ranges)
        portions[-1].append(Have(ranges=ranges, digest=table.claim_digest(ranges)))
    return portions


def _provable(table: ChunkTable, spans: Iterable[Range]) -> Iterator[list[Range]]:
    """The chunks in ``spans``, of which none is empty, as the ranges of one claim after the other."""
    part: list[Range] = []
    end = 0
    for start, stop in spans:
        at = start
        while at < stop:
            if part and (at >= end or len(part) == RANGES_PER_HAVE):
                yield part
                part = []
            if not part:
                end = _end(table, at)
            part.append((at, min(stop, end)))
            at = min(stop, end)
    if part:
        yield part


def _end(table: ChunkTable, start: int) -> int:
    """Where a claim ends at the latest whose first chunk is this one: where a file does."""
    stop = start + SMALL_CHUNKS
    if stop >= table.total:
        return table.total
    begun = table.file_range(table.address(stop)[0])[0]
    return begun if begun > start else table.file_range(table.address(start)[0])[1]


def judge(have: Have, start: int, stop: int) -> int:
    """Look at a claim of which the chunks have to lie from ``start`` to before ``stop``; where the next may begin.

    Raises:
        ChunkRefused: they do not, are not in order, or there is none.
    """
    if not have.ranges:
        raise ChunkRefused("the receiver claims no chunk at all")
    for first, behind in have.ranges:
        if not start <= first < behind <= stop:
            raise ChunkRefused("the receiver claims chunks that are not part of the page, or out of order")
        start = behind
    return start


def acknowledged(ranges: Iterable[Range], limit: int) -> Iterator[Range]:
    """The chunks that an Ack names, one range after the other; all have to lie before ``limit``.

    Raises:
        ChunkRefused: they do not.
        ProtocolBreach: they are more than there are.
    """
    left = limit
    for start, stop in ranges:
        if not start < stop <= limit:
            raise ChunkRefused("the receiver acknowledges chunks that are not part of the transfer")
        left -= stop - start
        if left < 0:
            raise ProtocolBreach("the receiver acknowledges more chunks at once than there are")
        yield start, stop
