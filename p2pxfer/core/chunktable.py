"""The chunks of one transfer as a table: numbers for addresses, and a hash for each number.

Chunks are numbered through all files in manifest order, so that sets of chunks are few ranges of numbers whatever the
shape of the tree is, and hashes lie in one piece of memory: 32 bytes a chunk.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate

from p2pxfer.core.geometry import chunk_count, chunk_span, file_root, transfer_root
from p2pxfer.core.manifest import Manifest
from p2pxfer.core.ranges import RangeSet
from p2pxfer.errors import ChunkRefused

HASH_SIZE = 32

ChunkAddress = tuple[int, int]
"""(file index, chunk index)."""


class ChunkTable:
    """Numbers, lengths and hashes of the chunks of ``manifest``."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._sizes = array("q", (entry.size for entry in manifest.files))
        self._bases = array("q", accumulate(map(chunk_count, self._sizes), initial=0))
        self._hashes = bytearray(HASH_SIZE * self.total)
        self._root: bytes | None = None
        self.known = RangeSet()

    @property
    def total(self) -> int:
        """Number of chunks of the transfer."""
        return self._bases[-1]

    @property
    def files(self) -> int:
        """Number of files of the transfer."""
        return len(self._sizes)

    def file_range(self, file: int) -> tuple[int, int]:
        """Chunk numbers of one file, half open.

        Raises:
            ChunkRefused: there is no such file.
        """
        if not 0 <= file < len(self._sizes):
            raise ChunkRefused(f"file {file} is not part of the transfer")
        return self._bases[file], self._bases[file + 1]

    def number(self, address: ChunkAddress) -> int:
        """The number of a chunk.

        Raises:
            ChunkRefused: there is no such chunk.
        """
        start, stop = self.file_range(address[0])
        if not 0 <= address[1] < stop - start:
            raise ChunkRefused(f"chunk {address[1]} is not part of file {address[0]}")
        return start + address[1]

    def address(self, number: int) -> ChunkAddress:
        """The chunk with this number, which must be in range."""
        file = bisect_right(self._bases, number) - 1
        return file, number - self._bases[file]

    def length(self, address: ChunkAddress) -> int:
        """Payload bytes of a chunk."""
        return chunk_span(self._sizes[address[0]], address[1])[1]

    def set_hash(self, number: int, digest: bytes) -> None:
        """Record the BLAKE3 hash of a chunk."""
        self._root = None
        self._hashes[number * HASH_SIZE : (number + 1) * HASH_SIZE] = digest
        self.known.add(number, number + 1)

    def set_hashes(self, start: int, stop: int, digest: bytes) -> None:
        """Record one hash for all chunks from ``start`` to before ``stop``."""
        self._root = None
        self._hashes[start * HASH_SIZE : stop * HASH_SIZE] = digest * (stop - start)
        self.known.add(start, stop)

    def hash(self, number: int) -> bytes:
        """The recorded hash of a chunk that is in :attr:`known`."""
        return bytes(self._hashes[number * HASH_SIZE : (number + 1) * HASH_SIZE])

    def root(self) -> bytes:
        """The root hash over all files; every chunk must be in :attr:`known`."""
        if self._root is None:
            self._root = transfer_root(self._manifest.transfer_id, list(self._file_roots()))
        return self._root

    def _file_roots(self) -> Iterator[bytes]:
        for file, size in enumerate(self._sizes):
            start, stop = self._bases[file], self._bases[file + 1]
            yield file_root(size, [self.hash(number) for number in range(start, stop)])
