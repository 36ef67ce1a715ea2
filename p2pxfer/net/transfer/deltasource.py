"""The sender's side of a delta, with its disk: chunks as patches to the older versions that the receiver has.

Law: a file is cut as far as its chunks are wanted, in order, and read through
:class:`~p2pxfer.net.transfer.source.Source`, so what changes meanwhile is noticed as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from p2pxfer.core.session.deltawire import BLOCK_HASH, LITERAL, Op, patch_size
from p2pxfer.core.transfer.chunktable import ChunkAddress
from p2pxfer.core.transfer.delta import Layout, operations
from p2pxfer.core.transfer.geometry import chunk_span
from p2pxfer.net.transfer.cutting import blocks, can_cut
from p2pxfer.net.transfer.source import Source

OPEN_CUTS: Final = 4
"""Of so many files the cuts are remembered."""


class _Cut:
    """One file, as far as it was cut."""

    def __init__(self, source: Source, file: int, average: int, hashes: bytes) -> None:
        size = source.manifest.files[file].size
        self.older = (average, hashes)
        self._numbers: dict[bytes, int] = {}
        for number in range(len(hashes) // BLOCK_HASH):
            self._numbers.setdefault(hashes[number * BLOCK_HASH : (number + 1) * BLOCK_HASH], number)
        self._more: Iterator[tuple[int, bytes]] = blocks(
            lambda offset, length: source.read_span(file, offset, length), size, average
        )
        self.layout = Layout()

    def reach(self, end: int) -> None:
        """Cut at least up to ``end``."""
        while self.layout.size < end:
            length, digest = next(self._more)
            self.layout.add(length, self._numbers.get(digest, -1))


class Cuts:
    """Patches for chunks of ``source``; for one thread."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._open: dict[int, _Cut] = {}

    def patch(
        self, address: ChunkAddress, payload: bytes, average: int, hashes: bytes
    ) -> tuple[list[Op], list[memoryview]] | None:
        """Operations and literals that make a chunk of the older version, ``None`` if that is no smaller or cannot be
        found out here.

        Raises:
            SourceChanged: the file is not what it was when it was scanned.
            DiskError: it cannot be read.
        """
        if not can_cut():
            return None
        file, index = address
        offset, length = chunk_span(self._source.manifest.files[file].size, index)
        cut = self._open.pop(file, None)
        if cut is None or cut.older != (average, hashes):  # another receiver has another version
            cut = _Cut(self._source, file, average, hashes)
        self._open[file] = cut
        if len(self._open) > OPEN_CUTS:
            del self._open[next(iter(self._open))]
        cut.reach(offset + length)
        ops = operations(cut.layout, offset, length)
        if patch_size(ops) >= length:
            return None
        literals: list[memoryview] = []
        at = 0
        view = memoryview(payload)
        for block, _, size in ops:
            if block == LITERAL:
                literals.append(view[at : at + size])
            at += size
        return ops, literals
