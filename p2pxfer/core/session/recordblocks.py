"""Blocks of sealed records on their way: from a connection until they can be opened, and to it until it takes them.

Laws of this file:

1. What waits in one direction is at most one block, which is used again and again.
2. A byte that came is copied only when the end of the block is reached: what is there of a record moves to its start.
3. One call opens a bounded number of records, however small they are.
4. A block takes as much memory as was ever filled of it: a connection that is only kept has some pages.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import Final

from p2pxfer.core.session.records import (
    HEADER_SIZE,
    MAX_LAST,
    MAX_SEALED,
    OVERHEAD,
    Opener,
    Plain,
    RecordBroken,
    Sealer,
    is_last,
)

BLOCK: Final = MAX_SEALED + 128 * 1024
"""Most bytes that came and wait: one of the largest records, and what comes with its end.  Two of them brought
nothing."""
SMALL: Final = 4096
"""Beside a block, what goes out at once has room for so many bytes: for the heads of chunks."""
MOST_RECORDS: Final = 64
"""Most records opened by one call."""
_LAST_SEALED: Final = MAX_LAST + OVERHEAD
_SMALL_PAGES: Final[int | None] = getattr(mmap, "MADV_NOHUGEPAGE", None)
"""Linux's advice; elsewhere nothing needs to be said."""


def _block(size: int) -> memoryview:
    """Zeros that take memory only where they were written over; a ``bytearray`` is written to the end at once."""
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if _SMALL_PAGES is not None:
        with suppress(OSError):  # a kernel that knows no huge pages
            pages.madvise(_SMALL_PAGES)
    return memoryview(pages)


class Intake:
    """Takes the bytes of one direction and gives what they hold."""

    def __init__(self, opener: Opener, first: bytes = b"") -> None:
        """``first`` are bytes that came already, a block at most."""
        self._opener = opener
        self._block = _block(BLOCK)
        self._begin = 0
        self._end = len(first)
        self._block[: len(first)] = first
        self._size: int | None = None
        """What the record at the start gives, once that was read."""
        self.last_words = b""
        """What was in the last record, once that was opened."""

    @property
    def finished(self) -> bool:
        """The end was opened."""
        return self._opener.finished

    @property
    def waits(self) -> bool:
        """There may be a whole record; only :meth:`next` tells."""
        return self._end - self._begin >= OVERHEAD + (self._size or 0)

    def room(self) -> memoryview:
        """Where the next bytes belong; there is some unless a whole record waits."""
        if self._begin == self._end:
            self._begin = self._end = 0
        elif len(self._block) - self._begin < MAX_SEALED:
            left = self._end - self._begin
            self._block[:left] = self._block[self._begin : self._end]
            self._begin, self._end = 0, left
        return self._block[self._end :]

    def arrived(self, size: int) -> None:
        """``size`` bytes were written to the start of :meth:`room`."""
        self._end += size

    def next(self) -> int | None:
        """How many bytes the next record will give, ``None`` if it is not all there.

        Raises:
            RecordBroken: no record may begin with what came, or it comes after the end.
        """
        here = self._end - self._begin
        if self._size is None:
            if here < HEADER_SIZE and not (here and self._opener.finished):
                return None
            self._size = self._opener.size(self._block[self._begin : self._begin + HEADER_SIZE])
        return self._size if here >= self._size + OVERHEAD else None

    def open(self, memory: memoryview) -> int:
        """Open records into ``memory``, one after the other, as far as they are there and fit; returns their bytes.

        The last record brings none: see :attr:`last_words`.

        Raises:
            RecordBroken: the first one was changed.  If it is a later one, the next call meets it.
        """
        done = 0
        try:
            for _ in range(MOST_RECORDS):
                size = self.next()
                if size is None or done + size > len(memory):
                    break
                end = self._begin + size + OVERHEAD
                record = self._block[self._begin : end]
                if is_last(record):
                    self._open_last(record, size)
                    self._begin, self._size = end, None
                    break
                self._opener.open(record, memory[done : done + size])
                self._begin, self._size, done = end, None, done + size
        except RecordBroken:
            if not done:
                raise
        return done

    def _open_last(self, record: memoryview, size: int) -> None:
        words = bytearray(size)
        self._opener.open(record, memoryview(words))
        self.last_words = bytes(words)


class Outlet:
    """Seals what is to be sent, and keeps it until it is sent."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._block = _block(BLOCK + SMALL + _LAST_SEALED)
        self._begin = 0
        self._end = 0

    @property
    def waits(self) -> bool:
        """There is something to be sent."""
        return self._begin < self._end

    @property
    def waiting(self) -> memoryview:
        """What is to be sent next."""
        return self._block[self._begin : self._end]

    @property
    def has_room(self) -> bool:
        """Another record of any size fits, and the last one behind it."""
        return len(self._block) - self._end >= MAX_SEALED + _LAST_SEALED

    def seal(self, plain: Plain) -> None:
        """Put a record at the end; see :meth:`~p2pxfer.core.session.records.Sealer.seal`."""
        self._end += self._sealer.seal(plain, self._block[self._end :])

    def seal_last(self, words: Plain = b"") -> None:
        """Put the last record at the end, once; nothing is sealed after it."""
        if not self._sealer.finished:
            self._end += self._sealer.seal_last(self._block[self._end :], words)

    def sent(self, size: int) -> None:
        """The first ``size`` bytes of :attr:`waiting` are gone."""
        self._begin += size
        if self._begin == self._end:
            self._begin = self._end = 0
