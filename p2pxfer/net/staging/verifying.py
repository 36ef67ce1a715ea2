"""Whether what came is what its hashes say: looked at as a whole before the first byte of it is written."""

from __future__ import annotations

from blake3 import blake3

from p2pxfer.core.session.bundlewire import Bundle
from p2pxfer.core.transfer.geometry import chunk_span
from p2pxfer.core.transfer.manifest import Entry, Manifest
from p2pxfer.errors import ChunkRefused

Small = tuple[int, Entry, memoryview]
"""(file index, what is listed of it, its bytes)."""


def verify_chunk(
    file: int, entry: Entry, index: int, payload: memoryview, digest: bytes, found: bytes | None = None
) -> None:
    """It is a chunk of the file, of the right length, and ``digest`` is its hash; ``found``: that, if it is known.

    Raises:
        ChunkRefused: it is not.
    """
    _, length = chunk_span(entry.size, index)
    if len(payload) != length:
        raise ChunkRefused(f"chunk {index} of file {file} has {len(payload)} bytes instead of {length}")
    if (found or blake3(payload).digest()) != digest:
        raise ChunkRefused(f"chunk {index} of file {file} does not match its hash")


def verified_files(manifest: Manifest, bundle: Bundle) -> list[Small]:
    """The small files of a bundle.

    Raises:
        ChunkRefused: one of them is not what its hash says, or not of the transfer.
    """
    at, stop = 0, bundle.file + bundle.count
    if stop > len(manifest.sizes):
        raise ChunkRefused("a bundle has files that are not part of the transfer")
    files: list[Small] = []
    listed = zip(manifest.run_of_files(bundle.file, stop), bundle.digests(), strict=True)
    for file, (entry, digest) in enumerate(listed, bundle.file):
        payload = bundle.payload[at : at + entry.size]
        verify_chunk(file, entry, 0, payload, digest)
        files.append((file, entry, payload))
        at += entry.size
    return files
