"""What a receiver holds, in the forms in which it says so: ranges of chunk numbers, and claims with their digests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from p2pxfer.core.session.wire import Have
from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.ranges import Range, RangeSet
from p2pxfer.errors import ChunkRefused, ProtocolBreach

RANGES_PER_HAVE = 256
HAVE_PER_MESSAGE = 8
"""With the claims around them the ranges of a message always fit: 20 bytes each at most."""


def claims(table: ChunkTable, have: RangeSet, start: int, stop: int) -> list[list[Have]]:
    """The claims to the chunks in ``have`` from ``start`` to before ``stop``, in portions for one message each.

    There is at least one portion, which may be empty.
    """
    ranges = list(have.overlap(start, stop))
    each = [ranges[at : at + RANGES_PER_HAVE] for at in range(0, len(ranges), RANGES_PER_HAVE)]
    made = [Have(ranges=part, digest=table.claim_digest(part)) for part in each]
    return [made[at : at + HAVE_PER_MESSAGE] for at in range(0, len(made), HAVE_PER_MESSAGE)] or [[]]


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
