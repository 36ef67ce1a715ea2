"""Chunks from the sender's disk, read and hashed in batches: small files that follow one another become bundles.

Bundles are made where chunks come together anyway: nothing waits for another file.  All of it runs in one thread.
"""

from __future__ import annotations

from p2pxfer.core.transfer.bundling import portions
from p2pxfer.core.transfer.chunktable import ChunkAddress
from p2pxfer.core.transfer.delta import Blocks
from p2pxfer.net.transfer.deltasource import Cuts
from p2pxfer.net.transfer.hashcache import HashCache
from p2pxfer.net.transfer.loaded import Loaded
from p2pxfer.net.transfer.source import Source

Wanted = tuple[ChunkAddress, Blocks | None]
"""A chunk, and the blocks of an older version that it may be made of."""


class ReadAhead:
    """Reads chunks of ``source`` and notes their hashes in ``cache``."""

    def __init__(self, source: Source, cache: HashCache) -> None:
        self._source = source
        self._cache = cache
        self._cuts = Cuts(source)

    def read(self, batch: list[Wanted]) -> list[Loaded]:
        """Read, hash and note the hashes, and compare with older versions; bundles, where that is possible.

        Raises:
            SourceChanged: a file is not what it was when it was scanned.
            DiskError: it cannot be read.
        """
        loaded: list[Loaded] = []
        chunks = ((file, older is not None) for (file, _), older in batch)
        for start, stop in portions(chunks, self._source.manifest.sizes):
            if stop - start > 1:
                loaded.append(self._read_files(batch[start][0], stop - start))
            else:
                loaded.append(self._read_chunk(*batch[start]))
        return loaded

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
