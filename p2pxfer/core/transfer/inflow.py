"""The chunks of one transfer as its receiver sees them: here, being stored, or missing.

Laws:

- A chunk is here when it was verified against its hash and written, never before; of two hashes for one chunk the one
  that was written last is what is here.  What is about to be written over is neither claimed nor acknowledged any more.
- The root is folded while chunks come, a few files at a time, up to the first one that is not here; what is here
  already is folded then, too: before the first chunk it would hold that up.  What is behind that file is folded when it
  has come: where an early file comes last, or few of many are missing, the end takes two microseconds for each file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from p2pxfer.core.session.bundlewire import Bundle
from p2pxfer.core.session.deltawire import Patch
from p2pxfer.core.session.restwire import Rest
from p2pxfer.core.session.transferwire import Chunk, Have
from p2pxfer.core.transfer.chunkhashes import ChunkHashes
from p2pxfer.core.transfer.chunktable import ChunkAddress, ChunkTable
from p2pxfer.core.transfer.claims import claims
from p2pxfer.core.transfer.geometry import MIN_CHUNK, zero_hash
from p2pxfer.core.transfer.journal import Claim
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.ranges import Range, RangeSet, common
from p2pxfer.errors import ChunkRefused, Damaged, LimitReached

MAX_SPARSE_CHUNKS = 4 * 1024 * 1024
"""Most chunks of a transfer with holes, which cost a sender nothing; 16 TiB in the largest chunks."""
MAX_LACKED = 2
"""Of each chunk, on average, patches that cannot be used: it is under way on two paths at most."""
MAX_BAD_CHUNKS = 3
"""Chunks that fail their hash before the sender is dropped."""


Incoming = Chunk | Patch | Bundle
"""What chunks are stored from."""
Arrival = Incoming | Rest
"""What chunks come in."""


def length_of(chunk: Arrival) -> int:
    """Bytes of a chunk or of those of a bundle, however they came."""
    return chunk.length if isinstance(chunk, (Patch, Rest)) else len(chunk.payload)


def wire_size(chunk: Arrival) -> int:
    """Bytes that travelled for it."""
    return chunk.wire_size if isinstance(chunk, Patch) else len(chunk.payload)


def claims_of(chunk: Incoming) -> list[Claim]:
    """What is to be journalled of it."""
    if isinstance(chunk, Bundle):
        return [(file, 0, 1, digest) for file, digest in enumerate(chunk.digests(), chunk.file)]
    return [(chunk.file, chunk.index, chunk.index + 1, chunk.hash)]


class Inflow:
    """The chunks of the files of ``manifest``, of which ``have`` holds the hashes of those that are here already."""

    def __init__(self, manifest: Manifest, have: Mapping[ChunkAddress, bytes]) -> None:
        self._manifest = manifest
        if isinstance(have, ChunkHashes):
            self.table = have.table.copy()
        else:
            self.table = ChunkTable(manifest)
            for address, digest in have.items():
                self.table.set_hash(self.table.number(address), digest)
        self._have = RangeSet(self.table.known)
        self._storing: dict[int, bytes] = {}
        """chunk number -> the hash of what is being stored there; of several at a time that of the last one."""
        self._before: dict[int, int] = {}
        """chunk number -> how many of these come before the last one, where there are any."""
        self._leaving = RangeSet()
        """Chunks of holes that are being stored."""
        self._bad = 0
        self._lacked = 0
        self.have_bytes = sum(self.table.bytes_in(*span) for span in self._have)

    def grow(self, *, sparse: bool) -> None:
        """Take in the files that were listed since.

        Raises:
            LimitReached: the files are ``sparse`` and have too many chunks: holes cost a sender nothing.
        """
        self.table.grow()
        if sparse and self.table.total > MAX_SPARSE_CHUNKS:
            raise LimitReached(f"sparse files may have {MAX_SPARSE_CHUNKS} chunks in all")

    @property
    def complete(self) -> bool:
        """Whether every chunk is here and nothing else is being stored in its place: the same once more may be."""
        same = all(self.has(number, digest) for number, digest in self._storing.items())
        return same and not self._leaving.total and self._have.total == self.table.total

    def is_complete_without(self, files: Collection[int]) -> bool:
        """Whether that is so for all files but these."""
        if not files:
            return self.complete
        without = RangeSet(self.table.chunks_in(files))
        stored = all(
            without.contains(number, number + 1) or self.has(number, digest) for number, digest in self._storing.items()
        )
        left = all(without.contains(*span) for span in self._leaving)
        return stored and left and not self.table.unknown(files)

    def chunks_of(self, page: int) -> Range:
        """The numbers of the chunks of the files of a page: the first one, and the one behind the last."""
        start, stop = (self.table.base(self._manifest.files_before(number)) for number in (page, page + 1))
        return start, stop

    def claims(self, page: int) -> list[list[Have]]:
        """What is here of the files of a page, and stays, in portions for one message each; at least one."""
        start, stop = self.chunks_of(page)
        going = [number for number in common(range(start, stop), self._storing) if self._goes(number)]
        holes = list(self._leaving.overlap(start, stop))
        if not going and not holes:
            return claims(self.table, self._have, start, stop)
        staying = RangeSet(self._have.overlap(start, stop))
        for begin, end in [*((number, number + 1) for number in going), *holes]:
            staying.remove(begin, end)
        return claims(self.table, staying, start, stop)

    def _goes(self, number: int) -> bool:
        """Whether something else is about to be written where this chunk is."""
        if number not in self._have:
            return False
        return number in self._leaving or self._storing.get(number, self.table.hash(number)) != self.table.hash(number)

    # -- in ------------------------------------------------------------------------------------------------------

    def numbers_of(self, chunk: Arrival, files: int) -> range:
        """The numbers of what came, of the first ``files`` files.

        Raises:
            ChunkRefused: it is outside these, or of the wrong length.
        """
        if isinstance(chunk, Bundle):
            return self._bundled(chunk, files)
        if chunk.file >= files:
            raise ChunkRefused(f"file {chunk.file} is not part of what was listed")
        number = self._number_of(chunk)
        return range(number, number + 1)

    def _bundled(self, bundle: Bundle, files: int) -> range:
        stop = bundle.file + bundle.count
        if stop > files:
            raise ChunkRefused("a bundle has files that are not part of what was listed")
        sizes = self._manifest.sizes[bundle.file : stop]
        if min(sizes) == 0 or max(sizes) > MIN_CHUNK or sum(sizes) != len(bundle.payload):
            raise ChunkRefused("a bundle has files that are not of one chunk, or has the wrong length")
        first = self.table.base(bundle.file)
        return range(first, first + bundle.count)

    def _number_of(self, chunk: Chunk | Patch | Rest) -> int:
        address = (chunk.file, chunk.index)
        number = self.table.number(address)
        if length_of(chunk) != self.table.length(address):
            raise ChunkRefused(f"chunk {chunk.index} of file {chunk.file} has the wrong length")
        return number

    def has(self, number: int, digest: bytes = b"") -> bool:
        """Whether this chunk is here, with this hash if one is given."""
        return number in self._have and digest in (b"", self.table.hash(number))

    def is_storing(self, number: int, digest: bytes) -> bool:
        """Whether this chunk is being stored by itself or as part of a hole, with this hash."""
        if self._storing.get(number) == digest:
            return True
        return number in self._leaving and digest == zero_hash(self.table.length(self.table.address(number)))

    def wants(self, number: int, digest: bytes) -> bool:
        """Whether this chunk with this hash is to be stored; false if it is here, and stays."""
        if self.has(number, digest) and not self._goes(number):
            return False
        self._begin(range(number, number + 1), [digest])
        return True

    def _begin(self, numbers: range, digests: Iterable[bytes]) -> None:
        """What has these hashes is being stored, behind what is already."""
        for number in common(numbers, self._storing):
            self._before[number] = self._before.get(number, 0) + 1
        self._storing.update(zip(numbers, digests, strict=True))

    def wants_any(self, chunk: Arrival, numbers: range) -> bool:
        """Whether it is to be stored; false if all of it is here.  What a rest belongs to may be gone."""
        if isinstance(chunk, Rest):
            return not self.has(numbers.start, chunk.hash) or self._goes(numbers.start)
        if not isinstance(chunk, Bundle):
            return self.wants(numbers.start, chunk.hash)
        here = self._have.contains(numbers.start, numbers.stop) and self.table.run(numbers) == chunk.hashes
        if here and not any(map(self._goes, numbers)):
            return False
        self._begin(numbers, chunk.digests())
        return True

    def replaces(self, chunk: Arrival, numbers: range) -> bool:
        """Whether it is something else than what is here of it, or is being stored."""
        digests = chunk.digests() if isinstance(chunk, Bundle) else [chunk.hash]
        return any(map(self._differs, numbers, digests))

    def _differs(self, number: int, digest: bytes) -> bool:
        if number in self._storing or number in self._leaving:
            return not self.is_storing(number, digest)
        return number in self._have and self.table.hash(number) != digest

    def hole(self, file: int, start: int, stop: int) -> tuple[RangeSet, list[Range]]:
        """Chunks of zeros were told: the numbers of those that are here, and ranges of those that are to be stored.

        What is in neither is being stored already; :meth:`stored_hole` tells when it is here.
        The range without a chunk, which only says that the file is sparse, is to be stored too.
        """
        if start == stop:
            return RangeSet(), [(start, stop)]
        first, _ = self.table.file_range(file)
        here = RangeSet()
        for begin, end, digest in self.table.zeros(first + start, first + stop):
            for span in self._have.overlap(begin, end):
                for run in self.table.alike(*span, digest):
                    here.add(*run)
        for number in filter(self._goes, common(range(first + start, first + stop), self._storing)):
            here.remove(number, number + 1)
        under_way = self._under_way(first + start, first + stop)
        wanted = [part for gap in here.missing(first + start, first + stop) for part in under_way.missing(*gap)]
        for span in wanted:
            self._leaving.add(*span)
        return here, [(begin - first, end - first) for begin, end in wanted]

    def _under_way(self, start: int, stop: int) -> RangeSet:
        """Which of these chunks become zeros with what is being stored: no other bytes come behind."""
        found = RangeSet(self._leaving.overlap(start, stop))
        for span in found.to_list():
            for number in common(range(*span), self._storing):
                found.remove(number, number + 1)
        return found

    def stored(self, address: ChunkAddress, digest: bytes) -> int:
        """The chunk was verified and written; its number."""
        number = self.table.number(address)
        self._over(number)
        if number not in self._have:
            self._have.add(number, number + 1)
            self.have_bytes += self.table.length(address)
        self.table.set_hash(number, digest)
        self.table.fold()
        return number

    def stored_all(self, chunk: Incoming) -> range:
        """It was verified and written; the numbers of what it holds."""
        if isinstance(chunk, Bundle):
            return self._stored_bundle(chunk)
        number = self.stored((chunk.file, chunk.index), chunk.hash)
        return range(number, number + 1)

    def _stored_bundle(self, bundle: Bundle) -> range:
        first = self.table.base(bundle.file)
        numbers = range(first, first + bundle.count)
        for number in numbers:
            self._over(number)
        self._add(numbers)
        self.table.set_run(first, bundle.hashes)
        self.table.fold()
        return numbers

    def stored_hole(self, file: int, first: int, stop: int) -> range:
        """These chunks are zero on the disk; their numbers."""
        numbers = self.table.numbers(file, first, stop)
        self._leaving.remove(numbers.start, numbers.stop)
        self._add(numbers)
        self.table.set_zeros(numbers.start, numbers.stop)
        self.table.fold()
        return numbers

    def _over(self, number: int) -> None:
        """The first of what is being stored there is not any more."""
        before = self._before.get(number, 0)
        if before > 1:
            self._before[number] = before - 1
        elif before:
            del self._before[number]
        else:
            self._storing.pop(number, None)

    def _add(self, numbers: range) -> None:
        """These are here, if they were not before."""
        self.have_bytes += sum(self.table.bytes_in(*span) for span in self._have.missing(numbers.start, numbers.stop))
        self._have.add(numbers.start, numbers.stop)

    def lacking(self, address: ChunkAddress) -> None:
        """The chunk cannot be made of its patch, or of a part and the rest.

        Raises:
            Damaged: more often than an honest sender makes it come to.
        """
        self._over(self.table.number(address))
        self._lacked += 1
        if self._lacked > MAX_LACKED * self.table.total:
            raise Damaged("the sender's pieces do not make the chunks that it says; what arrived whole is kept")

    def damaged(self, chunk: Incoming) -> None:
        """The chunk did not match its hash, or one of a bundle did not.

        Raises:
            ChunkRefused: always; the path that brought it is to be dropped.
            Damaged: once too often; the session is to be ended.
        """
        index, count = (0, chunk.count) if isinstance(chunk, Bundle) else (chunk.index, 1)
        first = self.table.number((chunk.file, index))
        for number in range(first, first + count):
            self._over(number)
        self._bad += 1
        if self._bad >= MAX_BAD_CHUNKS:
            raise Damaged("the sender's data does not match its own hashes; what arrived whole is kept")
        what = f"chunk {index} of file {chunk.file} does" if count == 1 else "the files of a bundle do"
        raise ChunkRefused(f"{what} not match {'its hash' if count == 1 else 'their hashes'}")
