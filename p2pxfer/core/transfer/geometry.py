"""Chunk geometry and root hashes: how a file is cut, and how chunk hashes are folded.  Both are protocol.

Cutting.  The chunk size of a file follows from its size alone, so it is never sent and cannot be chosen by a peer: the
smallest power of two that gives at most 256 chunks, at least 64 KiB and at most 4 MiB.  All chunks have that size but
the last, which has the rest; an empty file has no chunk.

Folding.  A chunk hash is plain BLAKE3 of the chunk's bytes.  The three folds below are BLAKE3 in its *derive key* mode,
each with a context string of its own, so that no value of one kind can stand for another.  ``u32`` and ``u64`` are
big-endian; ``|`` joins::

    file root      context "p2pxfer 1 file root"         u64 file size | the file's chunk hashes in order
    transfer root  context "p2pxfer 1 transfer root"     list digest (32) | u32 number of files | file roots in order
    claim digest   context "p2pxfer 1 claimed chunks"    the claimed chunks' hashes in order

In a transfer root the file root of a file that is left out is the fold of nothing, in a context of its own,
"p2pxfer 1 file left out": whatever it holds, both ends agree that it did not arrive.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

from blake3 import blake3

from p2pxfer.core.session.transferwire import MAX_CHUNK
from p2pxfer.errors import ChunkRefused

MIN_CHUNK: Final = 64 * 1024
"""Smallest chunk size, bytes; only the last chunk of a file is smaller."""
USUAL_CHUNKS: Final = 256
"""Files have at most that many chunks until their chunks have reached the largest size."""
HASH_SIZE: Final = 32

_SIZE: Final = struct.Struct(">Q")
_FILE_ROOT: Final = "p2pxfer 1 file root"
_TRANSFER_ROOT: Final = "p2pxfer 1 transfer root"
CLAIM: Final = "p2pxfer 1 claimed chunks"
"""The context of a claim's digest."""

LEFT_OUT: Final = blake3(derive_key_context="p2pxfer 1 file left out").digest()
"""Stands for a file that is left out."""


def chunk_size(size: int) -> int:
    """Bytes in each chunk but the last of a file of ``size`` bytes."""
    if size <= MIN_CHUNK * USUAL_CHUNKS:
        return MIN_CHUNK
    needed = -(-size // USUAL_CHUNKS)
    rounded = 1 << max(0, needed - 1).bit_length()
    return min(max(rounded, MIN_CHUNK), MAX_CHUNK)


def chunk_count(size: int) -> int:
    """Number of chunks of a file of ``size`` bytes; 0 for an empty file."""
    return -(-size // chunk_size(size))


def chunk_span(size: int, index: int) -> tuple[int, int]:
    """Offset and length in bytes of chunk ``index`` of a file of ``size`` bytes.

    Raises:
        ChunkRefused: the file has no such chunk.
    """
    each = chunk_size(size)
    offset = index * each
    if index < 0 or offset >= size:
        raise ChunkRefused(f"chunk {index} is outside its file, which has {chunk_count(size)}")
    return offset, min(each, size - offset)


def file_root(size: int, hashes: bytes | bytearray) -> bytes:
    """The hash (32 bytes) that stands for one file: its size and all its chunk hashes, one behind the other.

    Raises:
        ChunkRefused: there are not 32 bytes for each chunk that the file has.
    """
    return file_root_of(size, (hashes,))


def file_root_of(size: int, pieces: Iterable[bytes | bytearray]) -> bytes:
    """The same for hashes that come in pieces; raises as :func:`file_root`."""
    folded, came = blake3(_SIZE.pack(size), derive_key_context=_FILE_ROOT), 0
    for piece in pieces:
        folded.update(piece)
        came += len(piece)
    if came != HASH_SIZE * chunk_count(size):
        raise ChunkRefused(f"{came} bytes of hashes for a file of {chunk_count(size)} chunks")
    return folded.digest()


def transfer_root(list_digest: bytes, file_roots: bytes | bytearray) -> bytes:
    """The hash (32 bytes) that stands for everything transferred; ``file_roots`` one behind the other, in the order of
    the manifest's files.

    ``list_digest`` is SHA-256 of the whole manifest.

    Raises:
        ChunkRefused: the digest is not 32 bytes long, or the roots are not each.
    """
    if len(list_digest) != HASH_SIZE or len(file_roots) % HASH_SIZE:
        raise ChunkRefused(f"the digest of a file list and the root of a file have {HASH_SIZE} bytes")
    folded = blake3(list_digest + struct.pack(">I", len(file_roots) // HASH_SIZE), derive_key_context=_TRANSFER_ROOT)
    return folded.update(file_roots).digest()


def claim_digest(hashes: Sequence[bytes]) -> bytes:
    """The digest (32 bytes) in a claim to hold chunks with these hashes.

    Raises:
        ChunkRefused: a hash is not 32 bytes long.
    """
    if any(len(each) != HASH_SIZE for each in hashes):
        raise ChunkRefused(f"a hash has {HASH_SIZE} bytes")
    return blake3(b"".join(hashes), derive_key_context=CLAIM).digest()


@lru_cache(maxsize=64)
def zero_hash(length: int) -> bytes:
    """The hash (32 bytes) of a chunk of ``length`` zeros."""
    hashed, block = blake3(), bytes(MIN_CHUNK)
    for at in range(0, length, len(block)):
        hashed.update(block[: length - at])
    return hashed.digest()


def zero_runs(size: int, first: int, stop: int) -> Iterator[tuple[int, int, bytes]]:
    """What the chunks from ``first`` to before ``stop`` of a file of ``size`` bytes are if they are zeros: runs of them
    (first, the one behind the last) with the hash that each has.

    Raises:
        ChunkRefused: the file has no such chunks.
    """
    if first >= stop:
        return
    usual, last = chunk_span(size, first)[1], chunk_span(size, stop - 1)[1]
    even = stop - (last != usual)  # all chunks of a file but its last one have one length
    if first < even:
        yield first, even, zero_hash(usual)
    if even < stop:
        yield even, stop, zero_hash(last)
