"""Which chunks that are to be sent go out in one bundle: small whole files that follow one another in the list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from p2pxfer.core.session.bundlewire import MAX_BUNDLE, MAX_BUNDLE_FILES
from p2pxfer.core.transfer.geometry import MIN_CHUNK
from p2pxfer.core.transfer.ranges import Range


def portions(chunks: Iterable[tuple[int, bool]], sizes: Sequence[int]) -> Iterator[Range]:
    """Places in ``chunks``, half open: what lies between them goes out together.

    Each chunk is given by its file and whether it has to go ``alone``, whatever its size is; ``sizes`` are those of all
    files, in bytes.
    """
    start = at = size = 0
    last, open_run = -1, False
    for file, alone in chunks:
        own = sizes[file]
        joins = not alone and own <= MIN_CHUNK
        fits = open_run and joins and file == last + 1 and size + own <= MAX_BUNDLE
        if at > start and (not fits or at - start == MAX_BUNDLE_FILES):
            yield start, at
            start, size = at, 0
        size += own
        last, open_run = file, joins
        at += 1
    if at > start:
        yield start, at
