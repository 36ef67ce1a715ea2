"""Bundles for tests that join the two cores: made of what the sender takes out, and taken apart into chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from blake3 import blake3

from p2pxfer.core.session.bundlewire import Bundle
from p2pxfer.core.session.transferwire import Chunk
from p2pxfer.core.transfer.bundling import portions
from p2pxfer.core.transfer.chunktable import ChunkAddress
from p2pxfer.core.transfer.inflow import Incoming


def packed(
    addresses: Sequence[ChunkAddress], sizes: Sequence[int], content: Callable[[ChunkAddress], bytes]
) -> Iterator[Chunk | Bundle]:
    """What a sender makes of chunks with this content, as the product groups them."""
    for start, stop in portions([(file, False) for file, _ in addresses], sizes):
        parts = [content(address) for address in addresses[start:stop]]
        hashes = b"".join(blake3(part).digest() for part in parts)
        file, index = addresses[start]
        if stop - start > 1:
            yield Bundle(1, file, hashes, memoryview(b"".join(parts)))
        else:
            yield Chunk(1, file, index, hashes, memoryview(parts[0]))


def unpacked(chunk: Incoming, sizes: Sequence[int]) -> Iterator[Chunk]:
    """The chunks in what came."""
    if isinstance(chunk, Bundle):
        at = 0
        for file, digest in enumerate(chunk.digests(), chunk.file):
            yield Chunk(chunk.handle, file, 0, digest, chunk.payload[at : at + sizes[file]])
            at += sizes[file]
    else:
        assert isinstance(chunk, Chunk)
        yield chunk
