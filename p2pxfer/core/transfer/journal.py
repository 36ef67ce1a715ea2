"""The receiver's journal: what is on the disk for certain.  A pure codec; the writing is elsewhere.

Layout (integers big-endian)::

    magic        8    "P2PXJRNL"
    version      2    2
    crc          4    CRC-32 of the two before; up to here all versions are alike
    sender       32   digest of the sender's key
    transfer     32   transfer id
    crc          4    CRC-32 of everything before it

    then records:
    kind         1
    length       4    bytes of the body
    crc          4    CRC-32 of kind, length and body
    body

    kind 1, CHUNKS        of (file u32, chunk u32, hash 32): these were written and synced before the record was; where
                          the hash is 32 zeros other bytes are about to be written there, and what was claimed of the
                          chunk holds no more
    kind 2, PUBLISHING    of (top name, final name, st_dev u64, st_ino u64), names as u16 length and UTF-8:
                          each is about to be renamed from the first to the second name
    kind 3, PUBLISHED     root hash 32, then final names: everything is in its place and synced
    kind 4, LIST          1 if other pages follow, else 0 (one byte), then the next page of the file list
    kind 5, AGREED        root hash 32, then of each file that is left out its number u32, increasing: this is what the
                          sender's Final was about, and is going to be published

Laws:

- The journal follows the disk, never the other way round: a record is appended after what it says has become true
  (PUBLISHING: before it becomes true, so that a crash in between can be told from one before; a withdrawal: before the
  first of the other bytes is written, so that no claim is false in between).
- A program of this version that does not know of withdrawals takes one for a claim, and no sender confirms a claim to a
  hash that no bytes have: it fetches the chunk again.  A kind of its own would end the journal for it, with the claims
  that are withdrawn standing before that end.
- The first record that is cut short, fails its CRC or makes no sense ends the journal: what follows was not synced
  either.
- A page of the list stands before the first record about one of its files, AGREED before PUBLISHING.
- What is said later about a chunk or a name, in the same record too, replaces or adds to what was said before: claims
  stand in the order in which the chunks were written.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from msgspec import Struct

from p2pxfer.core.transfer.geometry import HASH_SIZE
from p2pxfer.errors import DiskError

VERSION: Final = 2
ChunkClaim = tuple[int, int, bytes]
"""(file index, chunk index, BLAKE3 hash)."""
Claim = tuple[int, int, int, bytes]
"""(file index, first chunk, the one behind the last, the BLAKE3 hash of each of them): a chunk, or a run of zeros."""

CHUNKS: Final = 1
PUBLISHING: Final = 2
PUBLISHED: Final = 3
LIST: Final = 4
AGREED: Final = 5

_MAGIC: Final = b"P2PXJRNL"
_HEAD: Final = struct.Struct(">8sH")
_BINDING: Final = struct.Struct(">32s32s")
_CRC: Final = struct.Struct(">I")
_RECORD: Final = struct.Struct(">BI")
_CHUNK: Final = struct.Struct(">II32s")
_NAME: Final = struct.Struct(">H")
_INODE: Final = struct.Struct(">QQ")
_FILE: Final = struct.Struct(">I")
_UINT64: Final = 2**64 - 1
_BINDING_AT: Final = _HEAD.size + _CRC.size
_RECORDS_AT: Final = _BINDING_AT + _BINDING.size + _CRC.size

RECORD_OVERHEAD: Final = _RECORD.size + _CRC.size
CHUNK_SIZE: Final = _CHUNK.size
"""Bytes that one chunk takes in the body of a CHUNKS record."""
_WITHDRAWN: Final = bytes(HASH_SIZE)
"""Stands for a hash where a claim is withdrawn."""
CHUNKS_PER_RECORD: Final = 8192
"""Larger records save nothing, and take memory while they are made."""


class Publication(Struct, frozen=True):
    """One top-level name that is being renamed; the inode tells whether it happened."""

    name: str
    final: str
    dev: int
    ino: int


class Agreed(Struct, frozen=True):
    """What is published: the root hash of everything but the files in ``left``, which are in order."""

    root: bytes
    left: tuple[int, ...] = ()


class JournalState(Struct):
    """What a journal says; ``valid`` is the length in bytes of the part that can be believed.

    ``pages`` of the file list, and whether ``more`` follow.
    """

    sender: bytes
    transfer: bytes
    valid: int
    pages: list[bytes] = []
    more: bool = True
    agreed: Agreed | None = None
    publishing: list[Publication] = []
    published_root: bytes | None = None
    published_names: list[str] = []
    _claims: list[memoryview] = []

    def chunks(self) -> Iterator[tuple[int, int, bytes | None]]:
        """(file index, chunk index, hash) in the order of writing; of what is said of one chunk the last holds.

        The hash is ``None`` where a claim is withdrawn.
        """
        for body in self._claims:
            for file, index, digest in _CHUNK.iter_unpack(body):
                yield file, index, None if digest == _WITHDRAWN else digest


# -- writing -----------------------------------------------------------------------------------------------------


def pack_header(sender: bytes, transfer: bytes) -> bytes:
    """The beginning of a new journal."""
    head = _HEAD.pack(_MAGIC, VERSION)
    head += _CRC.pack(zlib.crc32(head)) + _BINDING.pack(sender, transfer)
    return head + _CRC.pack(zlib.crc32(head))


def pack_page(page: bytes, *, more: bool) -> bytes:
    """A LIST record."""
    return pack_record(LIST, bytes([more]) + page)


def pack_record(kind: int, body: bytes) -> bytes:
    """A record around ``body``."""
    head = _RECORD.pack(kind, len(body))
    return head + _CRC.pack(zlib.crc32(body, zlib.crc32(head))) + body


def pack_chunks(chunks: Iterable[ChunkClaim]) -> bytes:
    """A CHUNKS record."""
    return pack_record(CHUNKS, b"".join(_CHUNK.pack(*chunk) for chunk in chunks))


def pack_claims(claims: Iterable[Claim]) -> Iterator[bytes]:
    """CHUNKS records about all of these in their order, of :data:`CHUNKS_PER_RECORD` chunks at most."""
    chunks = ((file, index, digest) for file, first, stop, digest in claims for index in range(first, stop))
    while batch := list(islice(chunks, CHUNKS_PER_RECORD)):
        yield pack_chunks(batch)


def pack_withdrawn(runs: Iterable[tuple[int, int, int]]) -> Iterator[bytes]:
    """CHUNKS records that withdraw all claims to (file index, first chunk, the one behind the last)."""
    return pack_claims((*run, _WITHDRAWN) for run in runs)


def pack_agreed(agreed: Agreed) -> bytes:
    """An AGREED record."""
    return pack_record(AGREED, agreed.root + b"".join(map(_FILE.pack, agreed.left)))


def pack_publishing(publications: Iterable[Publication]) -> bytes:
    """A PUBLISHING record."""
    pieces: list[bytes] = []
    for each in publications:
        pieces += [_pack_name(each.name), _pack_name(each.final), _INODE.pack(each.dev & _UINT64, each.ino & _UINT64)]
    return pack_record(PUBLISHING, b"".join(pieces))


def pack_published(root: bytes, names: Iterable[str]) -> bytes:
    """A PUBLISHED record."""
    return pack_record(PUBLISHED, root + b"".join(map(_pack_name, names)))


def _pack_name(name: str) -> bytes:
    raw = name.encode()
    return _NAME.pack(len(raw)) + raw


# -- reading -----------------------------------------------------------------------------------------------------


def read_journal(data: bytes) -> JournalState | None:
    """What the journal says, or ``None`` if its header is damaged, so that everything has to start over.

    Raises:
        DiskError: a newer version of the program wrote it.
    """
    version = _read_version(data)
    if version is None:
        return None
    if version != VERSION:
        raise DiskError(
            f"the journal of this transfer has version {version}, which this program does not know; "
            "finish the transfer with the program that began it, or remove its directory"
        )
    if len(data) < _RECORDS_AT:
        return None
    sender, transfer = _BINDING.unpack_from(data, _BINDING_AT)
    crc: int = _CRC.unpack_from(data, _RECORDS_AT - _CRC.size)[0]
    if zlib.crc32(data[: _RECORDS_AT - _CRC.size]) != crc:
        return None
    state = JournalState(sender, transfer, _RECORDS_AT)
    for kind, body, stop in read_records(data, _RECORDS_AT):
        if not _take(state, kind, body):
            break
        state.valid = stop
    return state


def _read_version(data: bytes) -> int | None:
    if len(data) < _BINDING_AT:
        return None
    magic, version = _HEAD.unpack_from(data)
    (crc,) = _CRC.unpack_from(data, _HEAD.size)
    return int(version) if magic == _MAGIC and crc == zlib.crc32(data[: _HEAD.size]) else None


def read_records(data: bytes, start: int) -> Iterator[tuple[int, memoryview, int]]:
    """(kind, body, offset behind it) of each whole record from ``start`` to the first that is cut or damaged."""
    view = memoryview(data)
    while start + RECORD_OVERHEAD <= len(data):
        kind, length = _RECORD.unpack_from(data, start)
        crc: int = _CRC.unpack_from(data, start + _RECORD.size)[0]
        begin = start + RECORD_OVERHEAD
        stop = begin + length
        head = view[start : start + _RECORD.size]
        if stop > len(data) or zlib.crc32(view[begin:stop], zlib.crc32(head)) != crc:
            return
        yield kind, view[begin:stop], stop
        start = stop


def _take(state: JournalState, kind: int, body: memoryview) -> bool:
    try:
        if kind == CHUNKS and len(body) % _CHUNK.size == 0:
            state._claims.append(body)
        elif kind == PUBLISHING:
            state.publishing += _publications(bytes(body))
        elif kind == AGREED and len(body) >= HASH_SIZE and (len(body) - HASH_SIZE) % _FILE.size == 0:
            state.agreed = _agreed(bytes(body))
        elif kind == PUBLISHED and len(body) >= HASH_SIZE:
            names = list(_names(bytes(body)[HASH_SIZE:]))
            state.published_root, state.published_names = bytes(body[:HASH_SIZE]), names
        elif kind == LIST and len(body) > 1:
            state.more = bool(body[0])
            state.pages.append(bytes(body[1:]))
        else:
            return False
    except (struct.error, UnicodeDecodeError):
        return False
    return True


def _agreed(body: bytes) -> Agreed:
    return Agreed(body[:HASH_SIZE], tuple(file for (file,) in _FILE.iter_unpack(body[HASH_SIZE:])))


def _publications(body: bytes) -> list[Publication]:
    found: list[Publication] = []
    at = 0
    while at < len(body):
        name, at = _name(body, at)
        final, at = _name(body, at)
        dev, ino = _INODE.unpack_from(body, at)
        at += _INODE.size
        found.append(Publication(name, final, dev, ino))
    return found


def _names(body: bytes) -> Iterator[str]:
    at = 0
    while at < len(body):
        name, at = _name(body, at)
        yield name


def _name(body: bytes, at: int) -> tuple[str, int]:
    (length,) = _NAME.unpack_from(body, at)
    start = at + _NAME.size
    stop = start + length
    if stop > len(body):
        raise struct.error("a name is cut short")
    return body[start:stop].decode(), stop
