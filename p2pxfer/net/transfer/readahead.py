"""Chunks from the sender's disk, read and hashed in batches: small files that follow one another become bundles.

Bundles are made where chunks come together anyway: nothing waits for another file.  A file that cannot be read costs
nobody else anything but a bundle.  All of it runs in one thread.
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pxfer.core.transfer.bundling import portions
from p2pxfer.core.transfer.chunktable import ChunkAddress
from p2pxfer.core.transfer.delta import Blocks
from p2pxfer.errors import SourceUnreadable
from p2pxfer.net.transfer.deltasource import Cuts
from p2pxfer.net.transfer.hashcache import HashCache
from p2pxfer.net.transfer.loaded import Loaded, Lost
from p2pxfer.net.transfer.source import Source

Wanted = tuple[ChunkAddress, Blocks | None]
"""A chunk, and the blocks of an older version that it may be made of."""


class ReadAhead:
    """Reads chunks of ``source`` and notes their hashes in ``cache``."""

    def __init__(self, source: Source, cache: HashCache) -> None:
        self._source = source
        self._cache = cache
        self._cuts = Cuts(source)

    def read(self, batch: list[Wanted]) -> tuple[list[Loaded], list[Lost]]:
        """Read, hash and note the hashes, and compare with older versions; bundles, where that is possible.

        Raises:
            DiskError: nothing can be read at present.
        """
        loaded: list[Loaded] = []
        lost: dict[int, Lost] = {}
        chunks = ((file, older is not None) for (file, _), older in batch)
        for start, stop in portions(chunks, self._source.manifest.sizes):
            if stop - start > 1:
                try:
                    loaded.append(self._read_files(batch[start][0], stop - start))
                    continue
                except SourceUnreadable:
                    pass  # one of them; the others go out one by one
            for address, older in batch[start:stop]:
                if (chunk := self._unless_lost(lost, address, older)) is not None:
                    loaded.append(chunk)
        return loaded, list(lost.values())

    def _unless_lost(self, lost: dict[int, Lost], address: ChunkAddress, older: Blocks | None) -> Loaded | None:
        file, _ = address
        if file not in lost:
            try:
                return self._read_chunk(address, older)
            except SourceUnreadable as error:
                lost[file] = Lost(file, error, [])
        lost[file].chunks.append(address)
        return None

    def hashes(self, addresses: Iterable[ChunkAddress]) -> tuple[list[tuple[ChunkAddress, bytes]], list[Lost]]:
        """Read and hash these; raises as :meth:`read`."""
        found: list[tuple[ChunkAddress, bytes]] = []
        lost: dict[int, Lost] = {}
        for address in addresses:
            if address[0] in lost:
                continue
            try:
                found.append((address, self._source.read_chunk(*address)[1]))
            except SourceUnreadable as error:
                lost[address[0]] = Lost(address[0], error, [])
        return found, list(lost.values())

    def _read_files(self, first: ChunkAddress, count: int) -> Loaded:
        files = self._source.read_files(first[0], first[0] + count)
        digests = [digest for _, digest in files]
        self._cache.add_files(first[0], digests)
        payload = b"".join([data for data, _ in files])
        return Loaded(first, b"".join(digests), len(payload), None, [payload], None)

    def _read_chunk(self, address: ChunkAddress, older: Blocks | None) -> Loaded:
        payload, digest = self._source.read_chunk(*address)
        self._cache.add(*address, digest)
        patch = self._cuts.patch(address, payload, *older) if older is not None else None
        ops, parts = patch if patch is not None else (None, [payload])
        return Loaded(address, digest, len(payload), ops, parts, older)
