"""The chunks of one transfer as a table: numbers for addresses, and a hash for each number.

Chunks are numbered through all files in manifest order, so that sets of chunks are few ranges of numbers whatever the
shape of the tree is, and hashes lie in pages of memory: 32 bytes a chunk, and less where many are alike.

The root takes two microseconds for each file.  Whoever must not pause for all of them at the end has them folded a few
at a time as they come, by :meth:`ChunkTable.fold`; that takes 32 bytes more for each file.  A file that is perhaps left
out does not hold this up: :meth:`ChunkTable.pass_over`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterator
from copy import copy
from typing import Final

from blake3 import blake3

from p2pxfer.core.session.leftwire import MAX_LEFT
from p2pxfer.core.transfer.geometry import (
    CLAIM,
    HASH_SIZE,
    LEFT_OUT,
    chunk_count,
    chunk_size,
    chunk_span,
    file_root,
    file_root_of,
    transfer_root,
    zero_runs,
)
from p2pxfer.core.transfer.hashpages import PAGE, HashPages
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.ranges import RangeSet
from p2pxfer.errors import ChunkRefused

FOLD: Final = 256
"""So many files are folded at once, four times as many as a bundle brings; it takes half a millisecond."""

ChunkAddress = tuple[int, int]
"""(file index, chunk index)."""


class ChunkTable:
    """Numbers, lengths and hashes of the chunks of ``manifest``, as far as :meth:`grow` has seen it."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._bases = array("q", [0])
        self._starts = array("q", [0])
        self._hashes = HashPages(manifest.whole_pages)
        self._folded = bytearray()
        """The roots of the first files."""
        self._passed: set[int] = set()
        """Files whose root is not among these, whatever stands in its place."""
        self._root: tuple[frozenset[int], bytes] | None = None
        self.known = RangeSet()
        self.grow()

    def grow(self) -> None:
        """Take in the files that were listed since."""
        sizes = self._manifest.sizes
        base, start = self._bases[-1], self._starts[-1]
        for file in range(self.files, len(sizes)):
            size = sizes[file]
            base += chunk_count(size)
            start += size
            self._bases.append(base)
            self._starts.append(start)
        self._root = None

    @property
    def complete(self) -> bool:
        """No file follows."""
        return self._manifest.complete and self.files == len(self._manifest.sizes)

    @property
    def total(self) -> int:
        """Number of chunks of the transfer."""
        return self._bases[-1]

    @property
    def files(self) -> int:
        """Number of files of the transfer."""
        return len(self._bases) - 1

    def file_range(self, file: int) -> tuple[int, int]:
        """Chunk numbers of one file, half open.

        Raises:
            ChunkRefused: there is no such file.
        """
        if not 0 <= file < self.files:
            raise ChunkRefused(f"file {file} is not part of the transfer")
        return self._bases[file], self._bases[file + 1]

    def base(self, files: int) -> int:
        """How many chunks the first ``files`` files have."""
        return self._bases[files]

    def number(self, address: ChunkAddress) -> int:
        """The number of a chunk.

        Raises:
            ChunkRefused: there is no such chunk.
        """
        start, stop = self.file_range(address[0])
        if not 0 <= address[1] < stop - start:
            raise ChunkRefused(f"chunk {address[1]} is not part of file {address[0]}")
        return start + address[1]

    def numbers(self, file: int, first: int, stop: int) -> range:
        """The numbers of a file's chunks from ``first`` to before ``stop``.

        Raises:
            ChunkRefused: there are no such chunks.
        """
        start, end = self.file_range(file)
        if not 0 <= first <= stop <= end - start:
            raise ChunkRefused(f"chunks {first} to {stop - 1} are not part of file {file}")
        return range(start + first, start + stop)

    def address(self, number: int) -> ChunkAddress:
        """The chunk with this number, which must be in range."""
        file = bisect_right(self._bases, number) - 1
        return file, number - self._bases[file]

    def runs(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """The chunks from ``start`` to before ``stop`` as (file index, first chunk, the one behind the last)."""
        while start < stop:
            file, index = self.address(start)
            end = min(stop, self._bases[file + 1])
            yield file, index, index + end - start
            start = end

    def length(self, address: ChunkAddress) -> int:
        """Payload bytes of a chunk."""
        return chunk_span(self._manifest.sizes[address[0]], address[1])[1]

    def bytes_of(self, files: int) -> int:
        """How many bytes the first ``files`` files hold."""
        return self._starts[files]

    def bytes_in(self, start: int, stop: int) -> int:
        """Payload bytes of the chunks from ``start`` to before ``stop``, however many these are."""
        return self._bytes_before(stop) - self._bytes_before(start)

    def _bytes_before(self, number: int) -> int:
        if number >= self.total:
            return self._starts[-1]
        file, index = self.address(number)
        return self._starts[file] + index * chunk_size(self._manifest.sizes[file])

    def set_hash(self, number: int, digest: bytes) -> None:
        """Record the BLAKE3 hash of a chunk."""
        self.set_run(number, digest)

    def set_run(self, start: int, digests: bytes) -> None:
        """Record the hashes of as many chunks as there are in ``digests``, from ``start`` on."""
        stop = start + len(digests) // HASH_SIZE
        if self._is_folded(start) and self._hashes.get(start, stop) != digests:
            self._unfold(start, stop)
        self._root = None
        self._hashes.put(start, digests)
        self.known.add(start, stop)

    def forget(self, number: int) -> None:
        """This chunk is not here after all."""
        self._root = None
        if self._is_folded(number):
            self._unfold(number, number + 1)
        self.known.remove(number, number + 1)

    def copy(self) -> ChunkTable:
        """A table of the same manifest that has seen and knows the same; it takes no pass over the files."""
        made = copy(self)
        made._bases, made._starts = self._bases[:], self._starts[:]
        made._hashes, made._folded, made._passed = self._hashes.copy(), self._folded[:], set(self._passed)
        made.known = RangeSet(self.known)
        return made

    def set_hashes(self, start: int, stop: int, digest: bytes) -> None:
        """Record one hash for all chunks from ``start`` to before ``stop``."""
        if self._is_folded(start) and list(RangeSet(self.alike(start, stop, digest)).missing(start, stop)):
            self._unfold(start, stop)
        self._root = None
        self._hashes.fill(start, stop, digest)
        self.known.add(start, stop)

    def set_zeros(self, start: int, stop: int) -> None:
        """Record that the chunks from ``start`` to before ``stop``, all of one file, are zeros."""
        for first, behind, digest in self.zeros(start, stop):
            self.set_hashes(first, behind, digest)

    def zeros(self, start: int, stop: int) -> Iterator[tuple[int, int, bytes]]:
        """Runs of these chunks, all of one file, with the hash that each has if it is zeros."""
        if start == stop:
            return  # behind the last chunk there is no address
        file, index = self.address(start)
        base = start - index
        for first, behind, digest in zero_runs(self._manifest.sizes[file], index, stop - base):
            yield base + first, base + behind, digest

    def hash(self, number: int) -> bytes:
        """The recorded hash of a chunk that is in :attr:`known`."""
        return self._hashes.get(number, number + 1)

    def alike(self, start: int, stop: int, digest: bytes) -> Iterator[tuple[int, int]]:
        """Ranges of these chunks, which are in :attr:`known`, that have this hash; two may touch."""
        return self._hashes.alike(start, stop, digest)

    def run(self, numbers: range) -> bytes:
        """The recorded hashes of chunks that follow one another and are in :attr:`known`."""
        return self._hashes.get(numbers.start, numbers.stop)

    def claims(self) -> Iterator[tuple[int, int, int, bytes]]:
        """(file index, chunk index, the next one, hash) of each chunk in :attr:`known`, in order."""
        for start, stop in self.known:
            file, index = self.address(start)
            for number in range(start, stop):
                while number >= self._bases[file + 1]:
                    file, index = file + 1, 0
                yield file, index, index + 1, self.hash(number)
                index += 1

    def claim_digest(self, ranges: list[tuple[int, int]]) -> bytes:
        """The digest (32 bytes) in a claim to hold the chunks in these ranges; all must be in :attr:`known`."""
        digest = blake3(derive_key_context=CLAIM)
        for start, stop in ranges:
            for piece in self._hashes.pieces(start, stop):
                digest.update(piece)
        return digest.digest()

    def chunks_in(self, files: Collection[int]) -> Iterator[tuple[int, int]]:
        """Chunk numbers of each of these files, half open, in order."""
        return ((self._bases[file], self._bases[file + 1]) for file in sorted(files))

    def unknown(self, left: Collection[int] = ()) -> list[tuple[int, int]]:
        """Chunk numbers, half open, that are not in :attr:`known`, apart from those of the files in ``left``."""
        gaps = self.known.missing(0, self.total)
        if not left:
            return list(gaps)
        without = RangeSet(self.chunks_in(left))
        return [part for gap in gaps for part in without.missing(*gap)]

    def root(self, left: Collection[int] = ()) -> bytes:
        """The root hash over the whole list and all files but those that are ``left`` out.

        Every chunk of the others must be in :attr:`known`.
        """
        wanted = frozenset(left)
        if self._root is None or self._root[0] != wanted:
            self._passed |= wanted
            self._fold_up_to(self.files)
            roots = bytearray(self._folded) if self._passed else self._folded
            for file in self._passed:
                roots[file * HASH_SIZE : (file + 1) * HASH_SIZE] = LEFT_OUT if file in wanted else self._file_root(file)
            self._root = wanted, transfer_root(self._manifest.digest(), roots)
        return self._root[1]

    # -- the root in advance -------------------------------------------------------------------------------------

    def pass_over(self, file: int) -> None:
        """The file may be left out: fold those behind it without it, which costs one file more at the end.

        That is done for as many as a transfer may leave out; for others it waits, as for any file.
        """
        if len(self._passed) < MAX_LEFT:
            self._passed.add(file)

    def fold(self, most: int = FOLD) -> None:
        """Fold at most so many more files, in order, as far as all of their chunks are in :attr:`known`."""
        folded = len(self._folded) // HASH_SIZE
        if folded < self.files:
            self._fold_up_to(self._first_unknown(folded, min(folded + most, self.files)))

    def _first_unknown(self, file: int, end: int) -> int:
        """The first file from ``file`` to before ``end`` of which a chunk is not known, and that was not passed over;
        ``end`` if there is none.
        """
        for start, stop in self.known.missing(self._bases[file], self._bases[end]):
            found = self._not_passed(self.address(start)[0])
            if self._bases[found] < stop:
                return found
        return end

    def _not_passed(self, file: int) -> int:
        """The first one from there on that was not passed over."""
        while file in self._passed:
            file += 1
        return file

    def _fold_up_to(self, files: int) -> None:
        for file in range(len(self._folded) // HASH_SIZE, files):
            self._folded += LEFT_OUT if file in self._passed else self._file_root(file)

    def _file_root(self, file: int) -> bytes:
        size, start, stop = self._manifest.sizes[file], self._bases[file], self._bases[file + 1]
        if stop - start > PAGE:
            return file_root_of(size, self._hashes.pieces(start, stop))
        return file_root(size, self._hashes.get(start, stop))

    def _is_folded(self, number: int) -> bool:
        return number < self._bases[len(self._folded) // HASH_SIZE]

    def _unfold(self, start: int, stop: int) -> None:
        """The hashes of these chunks become others; what stands for a file that was passed over does not matter."""
        file = self._not_passed(self.address(start)[0])
        if self._bases[file] < stop:
            del self._folded[file * HASH_SIZE :]
