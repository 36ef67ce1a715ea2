"""The hashes of very many chunks by their numbers, in pages.

Laws of this file:

1. A page in which nothing was put takes no memory: anybody may list a file of any size, and send its last chunk first.
2. A page that holds one hash for all of its chunks, as in a hole, takes that one.
3. A page that is whole is kept once by all that share it: who verifies and who notes hold the same in the end.
4. What was never put is zeros; who uses it knows what was.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from p2pxfer.core.transfer.geometry import HASH_SIZE
from p2pxfer.core.transfer.ranges import Range

PAGE: Final = 1024
"""Hashes in a page, which are 32 KiB."""

_BYTES: Final = PAGE * HASH_SIZE
_HASH: Final = struct.Struct(f"{HASH_SIZE}s")


class HashPages:
    """Hashes of 32 bytes; mutable."""

    __slots__ = ("_pages", "_shared")

    def __init__(self, shared: dict[int, bytes] | None = None) -> None:
        """``shared`` has the pages that those who hold it found whole last."""
        self._shared = {} if shared is None else shared
        self._pages: dict[int, bytes | bytearray] = {}
        """Of each page its hashes up to the last that was put, or, immutable, all of them or the one that all are."""

    def put(self, start: int, digests: bytes) -> None:
        """Hold as many hashes as there are in ``digests``, from ``start`` on."""
        at = 0
        while at < len(digests):
            page, first = divmod(start, PAGE)
            part = digests[at : at + (PAGE - first) * HASH_SIZE]
            self._put(page, first * HASH_SIZE, part)
            at += len(part)
            start += PAGE - first

    def _put(self, page: int, begin: int, part: bytes) -> None:
        held = self._pages.get(page, b"")
        end = begin + len(part)
        if isinstance(held, bytes):
            if held and part == self._get(page, begin // HASH_SIZE, len(part) // HASH_SIZE):
                return
            held = self._pages[page] = bytearray(held if len(held) == _BYTES else held * PAGE)
        if len(held) < begin:
            held.extend(bytes(begin - len(held)))
        held[begin:end] = part
        if end == _BYTES:
            self._pages[page] = self._whole(page, held)

    def _whole(self, page: int, held: bytearray) -> bytes:
        """What to keep of a page that is filled to its end."""
        if held == held[:HASH_SIZE] * PAGE:
            return bytes(held[:HASH_SIZE])
        whole, other = bytes(held), self._shared.get(page)
        if other == whole:
            return other
        self._shared[page] = whole
        return whole

    def fill(self, start: int, stop: int, digest: bytes) -> None:
        """Hold one hash from ``start`` to before ``stop``."""
        while start < stop:
            page, first = divmod(start, PAGE)
            count = min(PAGE - first, stop - start)
            if count == PAGE:
                self._pages[page] = digest
            else:
                self._put(page, first * HASH_SIZE, digest * count)
            start += count

    def get(self, start: int, stop: int) -> bytes:
        """The hashes from ``start`` to before ``stop``, one behind the other."""
        page, first = divmod(start, PAGE)
        if first + stop - start <= PAGE:
            return self._get(page, first, stop - start)
        return b"".join(self.pieces(start, stop))

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The same in pieces of a page at most, for whom they are too many at once."""
        while start < stop:
            page, first = divmod(start, PAGE)
            count = min(PAGE - first, stop - start)
            yield self._get(page, first, count)
            start += count

    def alike(self, start: int, stop: int, digest: bytes) -> Iterator[Range]:
        """Where this hash is held from ``start`` to before ``stop``: ranges in order, of which two may touch.

        A page that takes one hash takes one comparison.
        """
        while start < stop:
            page, first = divmod(start, PAGE)
            count = min(PAGE - first, stop - start)
            held = self._pages.get(page, b"")
            if not _is_one(held):
                yield from _runs(self._get(page, first, count), start, digest)
            elif held == digest:
                yield start, start + count
            start += count

    def _get(self, page: int, first: int, count: int) -> bytes:
        held = self._pages.get(page, b"")
        if _is_one(held):
            return bytes(held) * count
        return bytes(held[first * HASH_SIZE : (first + count) * HASH_SIZE]).ljust(count * HASH_SIZE, b"\0")

    def copy(self) -> HashPages:
        """The same hashes, of which a later change is none of these."""
        made = HashPages(self._shared)
        made._pages = {
            page: bytearray(held) if isinstance(held, bytearray) else held for page, held in self._pages.items()
        }
        return made


def _is_one(held: bytes | bytearray) -> bool:
    """Whether a page takes one hash for all."""
    return len(held) == HASH_SIZE and isinstance(held, bytes)


def _runs(hashes: bytes, start: int, digest: bytes) -> Iterator[Range]:
    """Ranges of numbers, the first of ``hashes`` being ``start``, that have this hash."""
    begin = stop = start
    for stop, (each,) in enumerate(_HASH.iter_unpack(hashes), start):
        if each != digest:
            if begin < stop:
                yield begin, stop
            begin = stop + 1
    if begin <= stop:
        yield begin, stop + 1
